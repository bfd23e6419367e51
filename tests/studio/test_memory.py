import jax
import numpy as np
import pytest
import tiny_model

from sora_jax.models import vae_tiles
from sora_jax.models.config import MODELS
from sora_jax.models.vae_tiles import Tiles, decoder_bytes, plan_tiles, tile_bytes
from sora_jax.studio import networks
from sora_jax.studio.memory import check_memory, denoiser_bytes, held_bytes
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve

PLAYGROUND, WAN = MODELS["playground"], MODELS["wan2_1_t2v_14b"]
GIB = 2**30


def test_memory_grows_with_the_clip_and_nonsense_is_refused():
    small = resolve(PLAYGROUND, ["a"])
    large = resolve(PLAYGROUND, ["a"] * 100, size=(8192, 8192), frames=1025)
    assert denoiser_bytes(PLAYGROUND, small) < GIB < denoiser_bytes(PLAYGROUND, large)
    check_memory(PLAYGROUND, small)
    with pytest.raises(ValueError, match="GiB"):
        check_memory(PLAYGROUND, large)
    with pytest.raises(ValueError, match="GiB"):
        check_memory(PLAYGROUND, small, held=2**60)


def test_a_fused_kernel_keeps_the_logits_off_the_memory():
    request = resolve(WAN, ["a"])
    assert denoiser_bytes(WAN, request, fused=True) < 40 * GIB < denoiser_bytes(WAN, request)


def test_what_does_not_fit_whole_goes_in_chunks_and_then_in_tiles():
    latent, frames = (21, 90, 160), 81
    whole = decoder_bytes(WAN.vae, 1, frames, 720, 1280)
    assert plan_tiles(WAN.vae, 1, latent, whole) is None
    assert plan_tiles(WAN.vae, 2, latent, whole) == Tiles(height=90, width=160)
    budgets = [whole - 1, 8 * GIB, 2 * GIB, GIB]
    plans = [plan_tiles(WAN.vae, 1, latent, budget) for budget in budgets]
    assert plans[0] == Tiles(height=90, width=160)
    assert [plan.height for plan in plans] == sorted((plan.height for plan in plans), reverse=True)
    assert plans[-1].overlap == plans[-1].height // 4 < 90 // 4
    for plan, budget in zip(plans, budgets, strict=True):
        assert tile_bytes(WAN.vae, plan) <= budget
    assert plan_tiles(WAN.vae, 1, latent, 0).height == min(vae_tiles.TILE_SIDES)


def test_weights_on_the_host_are_not_held():
    params = {"a": np.zeros(8, np.float32), "b": jax.numpy.zeros(4)}
    assert held_bytes(params) == 16


@pytest.fixture
def narrow(monkeypatch):
    """The tiny model where only small tiles fit."""
    monkeypatch.setattr(vae_tiles, "TILE_SIDES", (4,))
    monkeypatch.setattr(
        networks, "plan_tiles", lambda vae, clips, latent, free: plan_tiles(vae, clips, latent, 0)
    )
    return Pipeline(tiny_model.checkpoint())


def test_the_pipeline_tiles_where_it_must(narrow, monkeypatch):
    clips = np.tanh(np.random.default_rng(0).standard_normal((2, 5, 48, 48, 3), np.float32))
    z = narrow.encode(clips)
    tiled = narrow.decode_batch(z)
    monkeypatch.setattr(networks, "plan_tiles", lambda *_: None)
    assert tiled.shape == clips.shape
    assert np.abs(tiled).max() <= 1
    whole = narrow.encode(clips)
    assert z.shape == whole.shape
    # Tiles of 4 latents are smaller than what the network sees around a pixel, so they are near and no more.
    assert 0 < np.mean(np.square(np.asarray(z - whole))) < 0.1 * np.mean(np.square(np.asarray(whole)))
    assert 0 < np.mean(np.square(tiled - narrow.decode_batch(z))) < 0.1


def test_one_frame_of_a_clip_is_decoded_at_a_time_if_need_be(narrow):
    z = np.random.default_rng(0).standard_normal((1, 3, 2, 2, 6)).astype(np.float32)
    assert plan_tiles(tiny_model.CONFIG.vae, 1, (3, 2, 2), 0) == Tiles(height=2, width=2)
    assert narrow.decode_batch(z).shape == (1, 5, 16, 16, 3)
