"""The compiled programs of sampling. Parameters are arguments: one program for all weights.

tokens, seeds -> text features, noise;   (noise, text) -> latents, a few steps at a time;   latents <-> pixels
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from sora_jax.diffusion import Generation, Guided, Sampler, guide, run, start
from sora_jax.models.dit import DiT, DiTConfig, timesteps
from sora_jax.models.image import ImageConfig, ImageEncoder
from sora_jax.models.text import TextConfig, TextEncoder
from sora_jax.models.vae import VAE, VAEConfig, denormalize, normalize

__all__ = ["Told", "advance", "begin", "decode", "denoise", "encode", "encode_image", "encode_text"]


class Told(NamedTuple):
    """What the denoiser is told of each clip of a batch."""

    text: Any
    """Features [b, s, d]."""
    mask: Any = None
    """bool [b, s], which of them there are."""
    image: Any = None
    """Tokens [b, m, e]."""
    beside: Any = None
    """Channels [b, t, h, w, k] after those of the noise."""


def _text(params: Any, ids: Any, mask: Any, config: TextConfig, dtype: Any) -> jax.Array:
    return TextEncoder(config, dtype).apply({"params": params}, ids, mask)  # pyright: ignore


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def encode_text(params: Any, ids: Any, mask: Any, *, config: TextConfig, dtype: Any) -> jax.Array:
    """Token ids and mask [b, s] -> features [b, s, d]."""
    return _text(params, ids, mask, config, dtype)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def encode_image(params: Any, pixels: Any, *, config: ImageConfig, dtype: Any) -> jax.Array:
    """Pictures as `models.image.prepare` gives them, [b, side, side, 3] -> tokens [b, m, e]."""
    tokens, _ = ImageEncoder(config, dtype).apply({"params": params}, pixels)  # pyright: ignore
    return tokens


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def denoise(
    params: Any,
    x: Any,
    timestep: Any,
    text: Any,
    text_mask: Any = None,
    image: Any = None,
    *,
    config: DiTConfig,
    dtype: Any,
) -> jax.Array:
    """One evaluation of the denoiser."""
    inputs = (x, timestep, text, text_mask, None, image)
    return DiT(config, dtype).apply({"params": params}, *inputs)  # pyright: ignore


@functools.partial(jax.jit, static_argnames=("config", "dtype", "shape", "sampler", "guided", "masked"))
def begin(
    params: Any,
    ids: Any,
    mask: Any,
    seeds: Any,
    sigmas: Any,
    known: Any = None,
    unknown: Any = None,
    *,
    config: TextConfig,
    dtype: Any,
    shape: tuple[int, int, int, int],
    sampler: Sampler,
    guided: bool,
    masked: bool,
) -> tuple[Generation, Any, Any]:
    """The generation before its first step, and the text of its prompts and of the negative: (features, mask).

    ids, mask: [b, s] of the prompts, and one row more, the negative, where `guided`; seeds: uint32 [b];
    sigmas: [steps + 1]; known, unknown: as `diffusion.start` takes them; shape: (t, h, w, c) of one clip's
    latents; masked: whether the denoiser sees the mask.
    """
    text = _text(params, ids, mask, config, dtype)
    b = seeds.shape[0]
    # A key for each clip, so that its noise is the same in any batch.
    keys = jax.vmap(jax.random.key)(seeds)
    generation = start(keys, (b, *shape), sigmas, stepper=sampler.stepper, known=known, unknown=unknown)
    seen = jnp.asarray(mask) if masked else None
    parts = [jax.tree.map(lambda a, rows=rows: a[rows], (text, seen)) for rows in (slice(b), slice(b, None))]
    return generation, parts[0], parts[1] if guided else None


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def advance(
    params: Any, generation: Generation, cond: Any, steps: Any, *, config: DiTConfig, dtype: Any
) -> Generation:
    """`steps` (an array: one program for any number) more; cond: `Told`, or `Guided` of two."""

    def velocity(x, sigma, cond: Told) -> Any:
        level = timesteps(sigma, config.patch)
        x = x if cond.beside is None else jnp.concatenate([x, cond.beside.astype(x.dtype)], axis=-1)
        inputs = (x, level, cond.text, cond.mask, None, cond.image)
        return DiT(config, dtype).apply({"params": params}, *inputs)  # pyright: ignore

    guided = guide(velocity) if isinstance(cond, Guided) else velocity
    return run(generation, guided, cond, steps)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def encode(params: Any, pixels: Any, *, config: VAEConfig, dtype: Any) -> jax.Array:
    """Pixels [b, t, h, w, 3] in [-1, 1] -> normalised latents (the mean)."""
    mean, _ = VAE(config, dtype).apply({"params": params}, pixels, method="encode")  # pyright: ignore
    return normalize(mean, config)


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def decode(params: Any, latents: Any, *, config: VAEConfig, dtype: Any) -> jax.Array:
    """Normalised latents -> pixels in [-1, 1], clipped."""
    z = denormalize(latents, config)
    pixels = VAE(config, dtype).apply({"params": params}, z, method="decode")  # pyright: ignore
    return jnp.clip(pixels.astype(jnp.float32), -1.0, 1.0)  # pyright: ignore
