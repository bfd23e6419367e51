import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import (
    SAMPLERS,
    Guided,
    PerStep,
    capped,
    finish,
    guide,
    interpolate,
    remask,
    restore,
    run,
    sampling_sigmas,
    save,
    start,
    step,
)

SHAPE = (2, 3, 2, 4, 5)
STEPS = 7
SIGMAS = sampling_sigmas(STEPS, 3.0)
KEY = jax.random.key(0)
TOKENS = np.prod(SHAPE[1:])
RNG = np.random.default_rng(0)
WEIGHTS = jnp.asarray(RNG.normal(size=(2, TOKENS, TOKENS)) / TOKENS**0.5, jnp.float32)


def velocity(x, sigma, cond):
    """A small network in which every token sees every other, so that any difference spreads."""
    assert sigma.shape in ((2, 3, 1, 1), (2, 3, 2, 4))
    y = (x * (1 + sigma[..., None])).reshape(len(x), -1)
    y = jnp.tanh(y @ WEIGHTS[0]) @ WEIGHTS[1] + cond["text"][:, None]
    return y.reshape(x.shape)


guided = guide(velocity, batched=False)
go = jax.jit(lambda gen, cond, steps: run(gen, guided, cond, steps))
RED = Guided(positive={"text": jnp.ones(2)}, negative={"text": jnp.zeros(2)}, scale=3.0)
BLUE = dataclasses.replace(RED, positive={"text": -jnp.ones(2)})


def begin(name="unipc", **options):
    return start(KEY, SHAPE, options.pop("sigmas", SIGMAS), stepper=SAMPLERS[name].stepper, **options)


def same(a, b):
    def leaves(gen):
        return jax.tree.leaves(dataclasses.replace(gen, key=jax.random.key_data(gen.key)))

    return all(
        np.asarray(p).tobytes() == np.asarray(q).tobytes() for p, q in zip(leaves(a), leaves(b), strict=True)
    )


MASK = jnp.asarray(RNG.uniform(size=SHAPE[:4]) < 0.5)
KNOWN = jnp.asarray(RNG.normal(size=SHAPE), jnp.float32)


@pytest.mark.parametrize("name", SAMPLERS)
def test_paused_saved_restored_and_resumed_gives_the_same_bits(name, tmp_path):
    gen = begin(name, known=KNOWN, unknown=MASK)
    whole = go(gen, RED, STEPS)
    one_by_one = gen
    for pause in (1, 2, 1, STEPS - 4):
        one_by_one = go(one_by_one, RED, pause)
        save(tmp_path / "gen.npz", one_by_one)
        del one_by_one
        one_by_one = restore(tmp_path / "gen.npz")[0]
    assert same(whole, one_by_one)
    assert int(whole.step) == STEPS
    assert np.isfinite(finish(whole)).all()
    # Going on past the end does nothing.
    assert same(go(whole, RED, 3), whole)


def test_forks_share_their_past_and_leave_each_other_alone():
    gen = go(begin(), RED, 3)
    red, blue = go(gen, RED, STEPS), go(gen, BLUE, STEPS)
    assert same(red, go(begin(), RED, STEPS))
    assert not np.allclose(red.x, blue.x)
    # The same switch as data: the prompt per step.
    switch = PerStep(jnp.stack([jnp.ones(2), -jnp.ones(2)]), jnp.array([0, 0, 0, 1, 1, 1, 1]))
    np.testing.assert_allclose(
        go(begin(), dataclasses.replace(RED, positive={"text": switch}), STEPS).x, blue.x, atol=1e-4
    )


def test_run_is_one_scan_of_steps():
    gen = begin()
    text = str(jax.make_jaxpr(lambda g: run(g, guided, RED).x)(gen))
    assert text.count(f"length={STEPS}") == 1
    looped = gen
    one = jax.jit(lambda gen: step(gen, guided, RED))
    for _ in range(STEPS):
        looped = one(looped)
    np.testing.assert_allclose(looped.x, go(gen, RED, STEPS).x, atol=1e-4)


def test_prompts_schedules_and_masks_share_one_program():
    before = go._cache_size()
    scales = dataclasses.replace(RED, scale=PerStep(jnp.linspace(1.0, 5.0, STEPS)))
    for scale, mask in ((1.0, MASK), (5.0, ~MASK)):
        gen = start(KEY, SHAPE, SIGMAS * scale / 5, known=KNOWN, unknown=mask)
        go(gen, dataclasses.replace(scales, scale=PerStep(jnp.full(STEPS, scale))), 2)
    assert go._cache_size() <= before + 1


FRAMES = jnp.array([[True, False, True], [False, False, True]])


@pytest.mark.parametrize(
    ("name", "unknown"),
    [*((name, MASK) for name in SAMPLERS), ("unipc", MASK[:, :, :1, :1]), ("euler", FRAMES)],
)
def test_known_tokens_stay_to_the_bit_and_are_shown_at_level_zero(name, unknown):
    mask = np.broadcast_to(np.asarray(unknown).reshape(unknown.shape + (1,) * (4 - unknown.ndim)), SHAPE[:4])
    seen = []

    def watched(x, sigma, cond):
        jax.debug.callback(lambda x, sigma: seen.append((x, sigma)), x, sigma)
        # What the model says of known tokens must not matter, even where it is nonsense.
        v = velocity(x, sigma, {"text": jnp.ones(2)})
        return jnp.where(sigma[..., None] > 0, v, jnp.nan)

    gen = begin(name, known=KNOWN, unknown=unknown, sigmas=SIGMAS[[0, 2, 4, 7]])
    done = run(gen, watched)
    jax.effects_barrier()
    assert np.asarray(done.x)[~mask].tobytes() == np.asarray(KNOWN)[~mask].tobytes()
    assert np.isfinite(done.x).all()
    assert len(seen) == (6 if name == "heun" else 3)
    for x, sigma in seen:
        shown = np.broadcast_to(sigma, SHAPE[:4])
        assert (shown[~mask] == 0).all()
        np.testing.assert_array_equal(x[~mask], np.asarray(KNOWN)[~mask])
    assert (np.broadcast_to(seen[0][1], SHAPE[:4])[mask] == SIGMAS[0]).all()


@pytest.mark.parametrize("name", ["heun", "unipc"])
def test_strength_per_frame_starts_from_the_noised_source(name):
    sigmas = capped(SIGMAS, np.array([0.0, 0.5, 1.0]))
    gen = begin(name, sigmas=sigmas, source=KNOWN)
    noise = begin().x
    expected = interpolate(KNOWN, noise, jnp.asarray(sigmas[0]).reshape(1, 3, 1, 1))
    np.testing.assert_allclose(gen.x, expected, atol=1e-6)
    done = go(gen, RED, len(sigmas))
    assert np.asarray(done.x[:, 0]).tobytes() == np.asarray(KNOWN[:, 0]).tobytes()
    assert (done.x[:, 1:] != KNOWN[:, 1:]).all()


@pytest.mark.parametrize("name", SAMPLERS)
def test_frames_that_wait_keep_their_bits(name):
    sigmas = np.float32([[0.9, 0.9], [0.6, 0.9], [0.4, 0.5], [0.4, 0.2], [0.1, 0.0]])[:, [0, 1, 1]]
    path = [begin(name, sigmas=sigmas)]
    for _ in range(4):
        path.append(go(path[-1], RED, 1))
    for i in range(4):
        before, after = np.asarray(path[i].x), np.asarray(path[i + 1].x)
        kept = [before[:, f].tobytes() == after[:, f].tobytes() for f in range(3)]
        assert kept == list(sigmas[i] == sigmas[i + 1])


def test_schedules_per_clip():
    sigmas = np.stack([SIGMAS, SIGMAS * 0], axis=1)[..., None] * np.ones(3, np.float32)
    done = go(begin(sigmas=sigmas, source=KNOWN), RED, STEPS)
    np.testing.assert_array_equal(done.x[1], KNOWN[1])
    np.testing.assert_allclose(done.x[0], go(begin(), RED, STEPS).x[0], atol=1e-3)


def test_noise_is_a_function_of_the_key():
    assert same(begin(), begin())
    assert not np.allclose(begin().x, start(jax.random.key(1), SHAPE, SIGMAS).x)
    keys = jax.random.split(KEY, 2)
    both = start(keys, SHAPE, SIGMAS).x
    alone = start(keys[1:], (1, *SHAPE[1:]), SIGMAS).x
    np.testing.assert_array_equal(both[1:], alone)
    assert not np.allclose(both[0], both[1])
    np.testing.assert_array_equal(begin(noise=KNOWN).x, KNOWN)
    assert begin(noise=KNOWN.astype(jnp.bfloat16)).x.dtype == jnp.float32


def test_remask_frees_and_fixes_tokens_on_the_way():
    gen = go(begin(known=KNOWN, unknown=MASK), RED, 3)
    edited = remask(gen, ~MASK, known=KNOWN)
    mask = np.asarray(MASK)
    np.testing.assert_array_equal(np.asarray(edited.x)[mask], np.asarray(KNOWN)[mask])
    noise = (edited.x - (1 - SIGMAS[3]) * KNOWN) / SIGMAS[3]
    freed = np.asarray(noise)[~mask]
    assert abs(freed.mean()) < 0.25
    assert freed.std() == pytest.approx(1, abs=0.2)
    done = go(edited, RED, STEPS)
    np.testing.assert_array_equal(np.asarray(done.x)[mask], np.asarray(KNOWN)[mask])
    assert np.isfinite(done.x).all()
    untouched = remask(gen, MASK)
    np.testing.assert_array_equal(untouched.x, gen.x)


def test_finish_wants_the_end():
    with pytest.raises(ValueError, match="step 0 of 7"):
        finish(begin())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"known": KNOWN}, "go together"),
        ({"unknown": MASK}, "go together"),
        ({"known": KNOWN[:1], "unknown": MASK}, "`known` is"),
        ({"known": KNOWN, "unknown": MASK[:, :2]}, "doesn't fit"),
        ({"known": KNOWN, "unknown": MASK.astype(jnp.float32)}, "booleans"),
        ({"source": KNOWN[..., :1]}, "`source` is"),
        ({"noise": KNOWN[:, :1]}, "`noise` is"),
        ({"sigmas": np.ones((4, 5), np.float32)}, "`sigmas` is"),
        ({"sigmas": np.ones(1, np.float32)}, "`sigmas` is"),
    ],
)
def test_what_does_not_fit_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        begin(**options)


def test_broken_files_are_refused_and_nothing_is_left_half_written(tmp_path):
    path = tmp_path / "gen.npz"
    save(path, begin())
    assert [p.name for p in tmp_path.iterdir()] == ["gen.npz"]
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match="isn't a whole saved generation"):
        restore(path)
    np.savez(path, x=np.zeros(3))
    with pytest.raises(ValueError, match="isn't a whole saved generation"):
        restore(path)
    with pytest.raises(FileNotFoundError):
        restore(tmp_path / "none.npz")
