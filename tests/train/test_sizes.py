"""Steps on images and on clips of other sizes between those on the data's own."""

import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.data.latents import fill
from sora_jax.data.sources import DataConfig, open_resized, open_source
from sora_jax.diffusion.levels import TEXT_TO_VIDEO
from sora_jax.diffusion.schedule import LogitNormal, shift
from sora_jax.models.config import MODELS
from sora_jax.train.dit import DiTRun, Size, check_size, data_of, dit_loss

DATA = DataConfig(count=3, height=16, width=16, frames=9)


class Recorder:
    """In place of a denoiser: gives zeros, and keeps the levels it was asked for."""

    config = types.SimpleNamespace(patch=(1, 1, 1))

    def apply(self, variables, x, timestep, text, mask):
        self.levels = timestep / 1000
        return jnp.zeros_like(x)


def levels(t, s, tokens, side=1):
    """The levels [b, t] of one step on latents of t frames, in a run on clips of `tokens` with shift s."""
    dit, empty = Recorder(), (np.zeros(2, np.int32), np.ones(2, bool))
    batch = {
        "latents": jnp.zeros((64, t, side, side, 2)),
        "ids": jnp.zeros((64, 2), jnp.int32),
        "mask": jnp.ones((64, 2), bool),
    }
    text = types.SimpleNamespace(apply=lambda variables, ids, mask: jnp.zeros((64, 2, 8)))
    params = {"dit": {}, "text": {}}
    draw = LogitNormal(std=1.2, shift=s)
    fixed = {"empty": empty, "caption_dropout": 0.0, "levels": TEXT_TO_VIDEO, "tokens": tokens}

    @jax.jit
    def of_step(batch, key):
        dit_loss(params, batch, key, dit=dit, text_encoder=text, sigma_draw=draw, **fixed)
        return dit.levels

    return np.asarray(of_step(batch, jax.random.key(0)))


def test_an_image_has_less_noise_than_a_clip_as_it_has_fewer_tokens():
    np.testing.assert_allclose(levels(1, 6.0, tokens=4), levels(1, 3.0, tokens=1), rtol=1e-5)  # 6·√(1/4)
    np.testing.assert_allclose(
        levels(4, 6.0, tokens=4), shift(levels(4, 1.0, tokens=4), 6.0), rtol=1e-5, atol=1e-6
    )


def test_a_size_off_the_grid_is_refused_before_its_clips_are_encoded():
    model = MODELS["playground"]
    check_size(model, DataConfig(height=96, width=80, frames=33))
    for wrong, says in (
        ({"height": 60}, "nearest are 56 and 64"),
        ({"width": 72}, "a height that is a multiple of 16 and a width of 16"),
        ({"frames": 16}, "nearest are 13 and 17"),
    ):
        with pytest.raises(ValueError, match=says):
            check_size(model, dataclasses.replace(DataConfig(), **wrong))


def test_a_larger_clip_has_more_noise():
    np.testing.assert_allclose(levels(4, 3.0, tokens=4, side=2), levels(4, 6.0, tokens=4), rtol=1e-5)


def test_scenes_of_the_playground_are_the_same_in_every_size_and_there_can_be_more():
    clips, images = (
        open_source(DATA),
        open_resized(DATA, Size(frames=1, share=0.3, batch_size=8, count=5).of(DATA)),
    )
    assert len(images) == 5
    for i in range(len(clips)):
        np.testing.assert_array_equal(images[i]["video"], clips[i]["video"][:1])
        assert images[i]["caption"] == clips[i]["caption"]
    wide = open_resized(DATA, Size(frames=5, width=32, share=0.3, batch_size=8, count=2).of(DATA))
    assert wide[1]["video"].shape == (5, 16, 32, 3)
    assert wide[1]["caption"] == clips[1]["caption"]


def test_a_dataset_on_disk_has_its_first_frames_as_images_and_no_other_size(monkeypatch):
    clips = open_source(DATA)
    monkeypatch.setattr("sora_jax.data.folder.FolderSource", lambda path, split: clips)
    data = dataclasses.replace(DATA, path="clips")
    images = open_resized(data, Size(frames=1, share=0.3, batch_size=8, count=99).of(data))
    assert len(images) == 3
    np.testing.assert_array_equal(images[2]["video"], clips[2]["video"][:1])
    with pytest.raises(ValueError, match="images of that size"):
        open_resized(data, Size(frames=1, width=32, share=0.3, batch_size=8, count=99).of(data))


def test_batches_are_of_one_size_each_and_as_often_as_shared(tmp_path):
    sizes = (
        Size(frames=1, share=0.25, batch_size=4, count=8),
        Size(frames=5, height=32, share=0.25, batch_size=1, count=2),
    )
    run = DiTRun(model=MODELS["playground"], vae="none", data=DATA, sizes=sizes, batch_size=2)
    shapes = {2: (2, 2, 2, 1), 4: (1, 2, 2, 1), 1: (2, 4, 2, 1)}
    for batch, shape in shapes.items():
        source = open_resized(DATA, dataclasses.replace(DATA, count=8))
        fill(
            tmp_path / str(batch),
            source,
            lambda video, shape=shape: np.zeros((len(video), *shape)),
            made_from={},
            shard_size=8,
        )

    def tokenize(prompts):
        return np.zeros((1, 3), np.int32), np.ones((1, 3), bool)

    data = data_of(run, [tmp_path / str(batch) for batch in shapes], source, tokenize)
    seen = [next(data)["latents"].shape for _ in range(40)]
    assert {shape: seen.count(shape) for shape in set(seen)} == {
        (2, *shapes[2]): 20,
        (4, *shapes[4]): 10,
        (1, *shapes[1]): 10,
    }


def test_sizes_that_leave_no_steps_for_the_datas_own_or_come_twice_are_refused():
    image = Size(frames=1, share=0.5, batch_size=4, count=8)
    for sizes, told in (
        ((image, dataclasses.replace(image, width=32)), "must be less than 1"),
        ((dataclasses.replace(image, share=0.2),) * 2, "two are the same"),
        ((Size(share=0.2, batch_size=4, count=8),), "two are the same"),
        ((dataclasses.replace(image, batch_size=5),), "equal parts"),
    ):
        with pytest.raises(ValueError, match=told):
            DiTRun(model=MODELS["playground"], vae="none", data=DATA, sizes=sizes, batch_size=2, accumulate=2)
    with pytest.raises(ValueError, match="share"):
        Size(share=1.0, batch_size=4, count=8)
