"""What holds for the VAE by design: no frame sees a later one, an image is a clip, chunks are the whole."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sora_jax.models import vae
from sora_jax.models.vae import (
    VAE,
    VAE_PLAYGROUND,
    VAE_WAN2_1,
    VAE_WAN2_2,
    VAEConfig,
    decode_chunked,
    decode_stream,
    denormalize,
    encode_chunked,
    normalize,
)

PLAIN = VAEConfig(
    base_width=4,
    decoder_width=4,
    latent_channels=3,
    multipliers=(1, 2, 2),
    res_blocks=1,
    temporal_downsample=(True, True),
)
SHORTCUTS = replace(PLAIN, residual_shortcuts=True, patch_size=2, spatial_downsample=(True, False))
# Compiling takes longer than running here.
QUICK = {"xla_backend_optimization_level": 0}
BOTH = pytest.mark.parametrize("config", [PLAIN, SHORTCUTS], ids=["plain", "shortcuts"])


def clip(config, frames=13, height=1, width=3):
    shape = (1, frames, height * config.spatial_factor, width * config.spatial_factor, 3)
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@cache
def parameters(config):
    """Random everywhere: the layers that start at zero would hide what passes through them."""
    shapes = jax.eval_shape(
        lambda key, x: nn.meta.unbox(VAE(config).init(key, x)["params"]), *_inputs(config)
    )
    draw = np.random.default_rng(1).standard_normal
    return jax.tree.map(lambda s: np.float32(draw(s.shape) / np.prod(s.shape[:-1]) ** 0.5), shapes)


def _inputs(config):
    return jax.random.key(0), jax.ShapeDtypeStruct(clip(config).shape, jnp.float32)


@cache
def coder(config, method):
    run = jax.jit(lambda p, x: VAE(config).apply({"params": p}, x, method=method), compiler_options=QUICK)
    return partial(run, parameters(config))


def close(got, want, tolerance=1e-5):
    np.testing.assert_allclose(got, want, rtol=0, atol=tolerance * float(np.abs(want).max()))


@pytest.fixture(autouse=True)
def quick_chunks(monkeypatch):
    quick = jax.jit(
        vae.apply_chunk.__wrapped__, static_argnames=("config", "method", "dtype"), compiler_options=QUICK
    )
    monkeypatch.setattr(vae, "apply_chunk", quick)


def test_chunks_with_a_cache_are_the_whole():
    config, chunk = SHORTCUTS, 2
    x = clip(config)
    mean, logvar = coder(config, "encode")(x)
    for got, want in zip(encode_chunked(parameters(config), x, config, chunk), (mean, logvar), strict=True):
        close(got, want)
    parts = list(decode_stream(parameters(config), mean, config, chunk))
    assert [part.shape[1] for part in parts] == [1, 8, 4]
    close(jnp.concatenate(parts, axis=1), coder(config, "decode")(mean))


@BOTH
def test_an_image_is_the_first_frame_of_a_clip(config):
    x = clip(config)
    mean, _ = coder(config, "encode")(x)
    image_mean, _ = coder(config, "encode")(x[:, :1])
    close(image_mean, mean[:, :1])
    assert mean.shape == (1, 4, 1, 3, 3)
    image = coder(config, "decode")(image_mean)
    assert image.shape == x[:, :1].shape
    close(image, coder(config, "decode")(mean)[:, :1])


def test_no_frame_depends_on_a_later_one():
    """Gradients of latent frame 1 of 4 by pixel frames, and of the pixels it stands for by latent frames."""
    config = SHORTCUTS
    x = jnp.asarray(clip(config))

    @partial(jax.jit, compiler_options=QUICK)
    def by_frame(params, x, z):
        def latent(x):
            return jnp.sum(jnp.sin(VAE(config).apply({"params": params}, x, method="encode")[0][:, 1]))

        def pixels(z):
            return jnp.sum(jnp.sin(VAE(config).apply({"params": params}, z, method="decode")[:, 1:5]))

        return [jnp.abs(jax.grad(f)(a)).max(axis=(0, 2, 3, 4)) for f, a in ((latent, x), (pixels, z))]

    of_latent, of_pixels = by_frame(parameters(config), x, coder(config, "encode")(x)[0])
    assert (of_latent[:5] > 0).all()
    assert (of_latent[5:] == 0).all()
    assert (of_pixels[:2] > 0).all()
    assert (of_pixels[2:] == 0).all()


@pytest.mark.parametrize(
    ("config", "clip", "latents"),
    [
        (VAE_PLAYGROUND, (17, 64, 64), (5, 8, 8, 12)),
        (VAE_WAN2_1, (81, 480, 832), (21, 60, 104, 16)),
        (VAE_WAN2_2, (121, 704, 1280), (31, 44, 80, 48)),
    ],
)
def test_compression_of_the_named_sizes(config, clip, latents):
    assert config.latent_shape(*clip) == latents


def test_playground_makes_a_clip_of_the_size_it_was_given():
    clip = jax.ShapeDtypeStruct((2, 17, 64, 48, 3), jnp.float32)
    (pixels, mean, logvar), params = jax.eval_shape(
        VAE(VAE_PLAYGROUND).init_with_output, jax.random.key(0), clip
    )
    assert pixels.shape == clip.shape
    assert mean.shape == logvar.shape == (2, 5, 8, 6, 12)
    # 16 MB in float16 are to hold all of the shipped weights.
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) < 3.2e6


@BOTH
def test_half_precision_mixes_no_types_and_ends_in_float32(config):
    clip = jax.ShapeDtypeStruct((1, 5, 16, 16, 3), jnp.float32)
    outputs, params = jax.eval_shape(VAE(config, jnp.bfloat16).init_with_output, jax.random.key(0), clip)
    assert {leaf.dtype for leaf in jax.tree.leaves((outputs, params))} == {jnp.dtype("float32")}


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((16, 64, 64), "16 frames.*13 and 17"),
        ((0, 64, 64), "0 frames.*nearest are 1"),
        ((17, 63, 64), "height of 63.*56 and 64"),
        ((17, 64, 70), "width of 70.*64 and 72"),
        ((17, 64, 5), "width of 5 .*8"),
    ],
)
def test_sizes_that_do_not_fit_name_those_that_do(size, words):
    with pytest.raises(ValueError, match=words):
        VAE_PLAYGROUND.latent_shape(*size)
    x = jnp.zeros((1, *size, 3), jnp.float32)
    with pytest.raises(ValueError, match=words):
        VAE(VAE_PLAYGROUND).apply({"params": {}}, x, method="encode")
    with pytest.raises(ValueError, match=words):
        encode_chunked({}, x, VAE_PLAYGROUND)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"base_width": 0}, "base_width is 0"),
        ({"temporal_downsample": (True,)}, "give 3"),
        ({"latent_mean": (0.0,)}, "give 16"),
        ({"latent_std": (0.0,) * 16}, "above 0"),
    ],
)
def test_impossible_configs_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        replace(VAE_WAN2_1, **change)


def test_a_chunk_of_nothing_is_refused():
    with pytest.raises(ValueError, match="chunk is 0"):
        decode_chunked({}, jnp.zeros((1, 2, 1, 1, 3), jnp.float32), PLAIN, chunk=0)


def test_normalised_latents():
    z = jnp.asarray(np.random.default_rng(0).standard_normal((2, 3, 2, 2, 48)), jnp.float32)
    raw = denormalize(z, VAE_WAN2_2)
    np.testing.assert_allclose(raw[..., 5], z[..., 5] * 0.4990 + 0.0174, rtol=1e-6)
    np.testing.assert_allclose(normalize(raw, VAE_WAN2_2), z, atol=1e-5)
