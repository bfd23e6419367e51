"""Steps on images between those on clips."""

import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.data.sources import DataConfig, FirstFrames, open_images, open_source
from sora_jax.diffusion.levels import TEXT_TO_VIDEO
from sora_jax.diffusion.schedule import LogitNormal, shift
from sora_jax.train.dit import Images, dit_loss

DATA = DataConfig(count=3, height=16, width=16, frames=9)


class Recorder:
    """In place of a denoiser: gives zeros, and keeps the levels it was asked for."""

    config = types.SimpleNamespace(patch=(1, 1, 1))

    def apply(self, variables, x, timestep, text, mask):
        self.levels = timestep / 1000
        return jnp.zeros_like(x)


def levels(t, s, frames):
    """The levels [b, t] of one step on latents of t frames, in a run on clips of `frames` with shift s."""
    dit, empty = Recorder(), (np.zeros(2, np.int32), np.ones(2, bool))
    batch = {
        "latents": jnp.zeros((64, t, 1, 1, 2)),
        "ids": jnp.zeros((64, 2), jnp.int32),
        "mask": jnp.ones((64, 2), bool),
    }
    text = types.SimpleNamespace(apply=lambda variables, ids, mask: jnp.zeros((64, 2, 8)))
    params = {"dit": {}, "text": {}}
    draw = LogitNormal(std=1.2, shift=s)
    fixed = {"empty": empty, "caption_dropout": 0.0, "levels": TEXT_TO_VIDEO, "frames": frames}

    @jax.jit
    def of_step(batch, key):
        dit_loss(params, batch, key, dit=dit, text_encoder=text, sigma_draw=draw, **fixed)
        return dit.levels

    return np.asarray(of_step(batch, jax.random.key(0)))


def test_an_image_has_less_noise_than_a_clip_as_it_has_fewer_tokens():
    np.testing.assert_allclose(levels(1, 6.0, frames=4), levels(1, 3.0, frames=1), rtol=1e-5)  # 6·√(1/4)
    np.testing.assert_allclose(
        levels(4, 6.0, frames=4), shift(levels(4, 1.0, frames=4), 6.0), rtol=1e-5, atol=1e-6
    )


def test_images_of_the_playground_are_its_clips_first_frames_and_there_can_be_more():
    clips, images = open_source(DATA), open_images(DATA, 5)
    assert len(images) == 5
    for i in range(len(clips)):
        np.testing.assert_array_equal(images[i]["video"], clips[i]["video"][:1])
        assert images[i]["caption"] == clips[i]["caption"]
    of_clips = FirstFrames(clips)
    assert len(of_clips) == 3
    np.testing.assert_array_equal(of_clips[2]["video"], images[2]["video"])


def test_a_share_that_leaves_no_clips_is_refused():
    with pytest.raises(ValueError, match="share"):
        Images(share=1.0)
