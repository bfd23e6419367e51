"""Tiles against the whole: no seam that stands out, and the same program for every tile."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.models import vae as vae_module
from sora_jax.models.vae import VAE, VAEConfig
from sora_jax.models.vae_tiles import Tiles, decode_tiled, encode_tiled

CONFIG = VAEConfig(
    base_width=8,
    decoder_width=8,
    latent_channels=4,
    multipliers=(1, 1),
    res_blocks=1,
    temporal_downsample=(True,),
)
TILES = Tiles(height=12, width=12, overlap=6)
H, W = 16, 20


@functools.cache
def params():
    """Random weights of a size that keeps activations near 1."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(VAE(CONFIG).init, jax.random.key(0), jnp.zeros((1, 3, 4, 4, 3)))["params"]
    shapes = vae_module.nn.unbox(shapes)
    return jax.tree.map(
        lambda leaf: jnp.asarray(
            rng.normal(size=leaf.shape) * np.prod(leaf.shape[:-1]) ** -0.5
            if len(leaf.shape) > 1
            else np.ones(leaf.shape),
            jnp.float32,
        ),
        shapes,
    )


def smooth(shape, cycles):
    """A clip of slow waves, as a picture's latents are: [1, t, h, w, c]."""
    t, h, w, c = shape
    phase = np.arange(c)[None, None, None, :] * 0.7 + np.arange(t)[:, None, None, None] * 0.3
    down = np.arange(h)[None, :, None, None] / h * cycles
    across = np.arange(w)[None, None, :, None] / w * cycles
    return np.sin(2 * np.pi * (down + across) + phase)[None].astype(np.float32)


def psnr(a, b, peak):
    return 10 * np.log10(peak**2 / np.mean(np.square(a - b)))


@functools.cache
def decoded():
    z = smooth((3, H, W, 4), 1.5)
    whole = VAE(CONFIG).apply({"params": params()}, jnp.asarray(z), method="decode")
    return z, np.asarray(whole), decode_tiled(params(), z, CONFIG, TILES)


@pytest.mark.slow
def test_a_tile_as_large_as_the_clip_is_the_clip():
    z, whole, _ = decoded()
    one = decode_tiled(params(), z, CONFIG, Tiles(height=99, width=99, chunk=2))
    np.testing.assert_allclose(one, whole, atol=1e-5 * np.abs(whole).max())


def jumps(error, axis):
    """The largest change of the error from each row or column of pixels to the next."""
    return np.abs(np.diff(error, axis=axis)).max(axis=tuple({0, 1, 2, 3, 4} - {axis}))


def test_no_seam():
    """Where two tiles meet the error is small, and it doesn't jump where one of them ends."""
    _, whole, tiled = decoded()
    assert tiled.shape == whole.shape
    peak = whole.max() - whole.min()
    # Rows 4 to 12 and columns 6 to 14 of the latents are in two tiles: twice that in pixels. Seen: 47 and 56 dB.
    joint = np.zeros(whole.shape[2:4], bool)
    joint[8:24] = joint[:, 12:28] = True
    assert psnr(tiled[:, :, joint], whole[:, :, joint], peak) > 43
    assert psnr(tiled[:, :, ~joint], whole[:, :, ~joint], peak) > 43
    for axis, edges in ((2, (8, 24)), (3, (16, 24))):
        assert max(jumps(tiled - whole, axis)[edge - 1] for edge in edges) < 0.05 * peak


def test_without_an_overlap_there_is_a_seam():
    """So that the test above can fail."""
    z, whole, _ = decoded()
    tiled = decode_tiled(params(), z, CONFIG, Tiles(height=8, width=W))
    assert jumps(tiled - whole, 2)[15] > 0.2 * (whole.max() - whole.min())


def test_encoding():
    x = np.tanh(smooth((5, 2 * H, 2 * W, 3), 1.5))
    mean, logvar = VAE(CONFIG).apply({"params": params()}, jnp.asarray(x), method="encode")
    tiled, tiled_logvar = encode_tiled(params(), x, CONFIG, TILES)
    assert tiled.shape == mean.shape
    assert psnr(tiled, np.asarray(mean), float(mean.max() - mean.min())) > 30
    assert psnr(tiled_logvar, np.asarray(logvar), float(logvar.max() - logvar.min())) > 30


def test_one_program_for_all_tiles():
    z, _, _ = decoded()
    before = vae_module.apply_chunk._cache_size()
    decode_tiled(params(), z[:, :, :, :15], CONFIG, TILES)
    decode_tiled(params(), z[:, :2], CONFIG, TILES)
    assert vae_module.apply_chunk._cache_size() == before


def test_sizes_that_make_no_sense():
    with pytest.raises(ValueError, match="half a side"):
        Tiles(height=8, width=8, overlap=5)
    with pytest.raises(ValueError, match="at least 1"):
        Tiles(height=8, width=8, chunk=0)
    with pytest.raises(ValueError, match="nearest"):
        encode_tiled(params(), np.zeros((1, 4, 8, 8, 3), np.float32), CONFIG, TILES)
