import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import TEXT_TO_VIDEO, LevelMix, LogitNormal, draw_batch, draw_levels, draw_unknown
from sora_jax.diffusion.levels import KNOWN

SHAPE = (5, 4, 3)
DRAWS = 600

NONE = dict.fromkeys(KNOWN, 0.0) | {"together": 1.0, "independent": 0.0, "rising": 0.0}
batch = jax.jit(draw_batch, static_argnums=(1, 2, 3, 4))
unknowns = jax.jit(jax.vmap(draw_unknown, in_axes=(0, None, None)), static_argnums=(1, 2))


def only(**weights):
    return LevelMix(**(NONE | weights))


@functools.cache
def masks(kind):
    """Frames' masks [n, t] of one kind of draw, or [n, t, h, w] of a spatial one."""
    unknown = np.asarray(unknowns(jax.random.split(jax.random.key(7), DRAWS), SHAPE, only(**{kind: 1.0})))
    return unknown if kind in ("inside", "outside") else unknown[:, :, 0, 0]


def runs(mask):
    """How many separate stretches of true."""
    return int((np.diff(np.r_[False, mask].astype(int)) == 1).sum())


def test_levels_are_zero_exactly_where_known():
    sigma, unknown = batch(jax.random.key(0), DRAWS, SHAPE, LevelMix())
    assert sigma.shape == unknown.shape == (DRAWS, *SHAPE)
    assert sigma.dtype == jnp.float32
    np.testing.assert_array_equal(sigma > 0, unknown)
    assert (sigma < 1).all()
    assert unknown.any(axis=(1, 2, 3)).all()


def test_without_boxes_the_grid_is_one_level_a_frame():
    shapes = jax.eval_shape(lambda key: draw_batch(key, 3, SHAPE, only(head=1.0)), jax.random.key(0))
    assert [leaf.shape for leaf in shapes] == [(3, 5, 1, 1)] * 2


def test_nothing():
    assert masks("nothing").all()


@pytest.mark.parametrize("kind", ["head", "tail"])
def test_head_and_tail(kind):
    known = ~masks(kind)
    known = known if kind == "head" else known[:, ::-1]
    lengths = known.sum(axis=1)
    np.testing.assert_array_equal(known, np.arange(5) < lengths[:, None])
    # Every length but none and all, equally often.
    np.testing.assert_allclose(
        np.bincount(lengths, minlength=6) / DRAWS, [0, 0.25, 0.25, 0.25, 0.25, 0], atol=0.06
    )


def test_ends():
    unknown = masks("ends")
    assert not unknown[:, [0, -1]].any()
    assert all(runs(mask) == 1 for mask in unknown)
    assert len({mask.tobytes() for mask in unknown}) == 6  # all stretches of the 3 frames between


def test_frames():
    unknown = masks("frames")
    assert set(unknown.sum(axis=1)) == {1, 2, 3, 4}
    assert len({mask.tobytes() for mask in unknown}) == 2**5 - 2
    np.testing.assert_allclose(unknown.mean(axis=0), 0.5, atol=0.08)


def test_window():
    unknown = masks("window")
    assert all(runs(mask) == 1 for mask in unknown)
    assert len({mask.tobytes() for mask in unknown}) == 5 * 6 // 2 - 1  # all stretches but the whole


@pytest.mark.parametrize("kind", ["inside", "outside"])
def test_boxes(kind):
    boxes = masks(kind) if kind == "inside" else ~masks(kind)
    for box in boxes:
        frames, rows, columns = box.any(axis=(1, 2)), box.any(axis=(0, 2)), box.any(axis=(0, 1))
        np.testing.assert_array_equal(box, frames[:, None, None] & rows[:, None] & columns)
        assert runs(frames) == runs(rows) == runs(columns) == 1
        assert not (rows.all() and columns.all())
    assert 0.4 < np.mean([box.any(axis=(1, 2)).all() for box in boxes]) < 0.6
    assert np.mean([box.any(axis=(0, 1)).all() for box in boxes]) > 0.15
    assert np.mean([box.any(axis=(0, 2)).all() for box in boxes]) > 0.15


@pytest.mark.parametrize("shape", [(2, 1, 2), (1, 1, 1)])
def test_small_clips_always_have_something_unknown(shape):
    mix = dataclasses.replace(LevelMix(), nothing=0.0)
    unknown = np.asarray(unknowns(jax.random.split(jax.random.key(3), DRAWS), shape, mix))
    assert unknown.any(axis=(1, 2, 3)).all()


def test_each_kind_comes_as_often_as_asked():
    keys = jax.random.split(jax.random.key(1), 2000)
    unknown = np.asarray(unknowns(keys, SHAPE, only(nothing=3.0, head=1.0, window=1.0, inside=1.0)))
    frames = unknown[:, :, 0, 0]
    spatial = (unknown != unknown[:, :, :1, :1]).any(axis=(1, 2, 3))
    assert unknown.all(axis=(1, 2, 3)).mean() == pytest.approx(3 / 6, abs=0.04)
    assert spatial.mean() == pytest.approx(1 / 6, abs=0.03)
    assert (~spatial & ~frames[:, 0] & frames[:, -1]).mean() == pytest.approx(1 / 6 + 4 / 14 / 6, abs=0.03)


def test_levels_together_independent_and_rising():
    mix = dataclasses.replace(TEXT_TO_VIDEO, together=2.0, independent=1.0, rising=1.0)
    level = LogitNormal(mean=1.0, std=0.5, shift=3.0)
    sigma = np.asarray(batch(jax.random.key(2), 2000, SHAPE, mix, level)[0])[:, :, 0, 0]
    together = (sigma == sigma[:, :1]).all(axis=1)
    rising = (np.diff(sigma, axis=1) > 0).all(axis=1)
    independent = ~together & ~rising
    assert together.mean() == pytest.approx(0.5, abs=0.04)
    assert rising.mean() == pytest.approx(0.25 * (1 + 1 / 120), abs=0.04)
    assert abs(np.corrcoef(sigma[independent].T)[~np.eye(5, dtype=bool)]).max() < 0.2
    # Sorting moves levels between frames; each kind as a whole follows the law it was given.
    logit = np.log(sigma / (1 - sigma))
    for kind in (together, rising, independent):
        assert logit[kind].mean() == pytest.approx(1 + np.log(3), abs=0.06)
        assert logit[kind].std() == pytest.approx(0.5, abs=0.04)


def test_same_key_same_draw_in_any_batch_and_under_jit():
    key = jax.random.key(5)
    one = draw_levels(jax.random.split(key, DRAWS)[2], SHAPE, LevelMix())
    for a, b in zip(batch(key, DRAWS, SHAPE, LevelMix()), one, strict=True):
        np.testing.assert_allclose(a[2], b, rtol=1e-6)


def test_impossible_mixes_are_refused():
    with pytest.raises(ValueError, match="positive"):
        LevelMix(**dict.fromkeys(KNOWN, 0.0))
    with pytest.raises(ValueError, match="negative"):
        LevelMix(head=-0.1)
    with pytest.raises(ValueError, match="positive"):
        LevelMix(together=0.0, independent=0.0, rising=0.0)
