"""The compiled programs of sampling. Parameters are arguments: one program for all weights.

tokens, seeds -> text features, noise;   (noise, text) -> latents, a few steps at a time;   latents <-> pixels
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.diffusion import (
    FirstBlock,
    Generation,
    Guided,
    MagCache,
    Sampler,
    StepCache,
    cached,
    guide,
    prepare,
    run,
    start,
)
from sora_jax.models.dit import DiT, DiTConfig, timesteps
from sora_jax.models.dit_signals import first_block, modulated_input
from sora_jax.models.text import TextConfig, TextEncoder
from sora_jax.models.vae import VAE, VAEConfig, denormalize, normalize

__all__ = ["advance", "begin", "decode", "denoise", "encode", "encode_text", "remember"]


def _text(params: Any, ids: Any, mask: Any, config: TextConfig, dtype: Any) -> jax.Array:
    return TextEncoder(config, dtype).apply({"params": params}, ids, mask)  # pyright: ignore


@functools.partial(jax.jit, static_argnames=("config", "dtype"))
def encode_text(params: Any, ids: Any, mask: Any, *, config: TextConfig, dtype: Any) -> jax.Array:
    """Token ids and mask [b, s] -> features [b, s, d]."""
    return _text(params, ids, mask, config, dtype)


@functools.partial(jax.jit, static_argnames=("config", "dtype", "masked"))
def denoise(
    params: Any, x: Any, timestep: Any, text: Any, *, config: DiTConfig, dtype: Any, masked: bool
) -> jax.Array:
    """One evaluation of the denoiser; `masked` hides the text's padding from it."""
    # The encoder gives 0 for padding and nothing else.
    mask = jnp.any(text != 0, axis=-1) if masked else None
    return DiT(config, dtype).apply({"params": params}, x, timestep, text, mask)  # pyright: ignore


@functools.partial(jax.jit, static_argnames=("config", "dtype", "shape", "sampler", "guided", "masked"))
def begin(
    params: Any,
    ids: Any,
    mask: Any,
    seeds: Any,
    sigmas: Any,
    noise: Any = None,
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
    sigmas: [steps + 1]; noise: [b, t, h, w, c] in place of the seeds'; shape: (t, h, w, c) of one clip's latents;
    masked: whether the denoiser sees the mask.
    """
    text = _text(params, ids, mask, config, dtype)
    b = seeds.shape[0]
    # A key for each clip, so that its noise is the same in any batch.
    generation = start(
        jax.vmap(jax.random.key)(seeds), (b, *shape), sigmas, stepper=sampler.stepper, noise=noise
    )
    seen = jnp.asarray(mask) if masked else None
    parts = [jax.tree.map(lambda a, rows=rows: a[rows], (text, seen)) for rows in (slice(b), slice(b, None))]
    return generation, parts[0], parts[1] if guided else None


def _velocity(
    params: Any, cond: Any, cache: StepCache | None, config: DiTConfig, dtype: Any, whole: bool
) -> Any:
    """The denoiser as the sampler takes it: guided where `cond` is, evaluated as the cache's rule says."""

    def level(sigma):
        told = timesteps(sigma, config.patch)
        return jnp.floor(told) if whole else told

    def velocity(x, sigma, cond) -> Any:
        return DiT(config, dtype).apply({"params": params}, x, level(sigma), *cond)  # pyright: ignore

    def signal(x, sigma, cond):
        told = cond.positive if isinstance(cond, Guided) else cond
        if isinstance(cache.rule, FirstBlock):  # pyright: ignore[reportOptionalMemberAccess]
            return first_block(params, x, level(sigma), told[0], told[1], config, dtype)
        return modulated_input(params, x, level(sigma), config, dtype)

    guided = guide(velocity) if isinstance(cond, Guided) else velocity
    if cache is None:
        return guided
    return cached(guided, cache, None if isinstance(cache.rule, MagCache) else signal)


def remember(
    params: Any, generation: Generation, cond: Any, cache: StepCache, *, config: DiTConfig, dtype: Any
) -> Generation:
    """The generation with room for what `advance` with this cache remembers."""
    return prepare(generation, _velocity(params, cond, cache, config, dtype, False), cond)


@functools.partial(jax.jit, static_argnames=("config", "dtype", "whole"))
def advance(
    params: Any,
    generation: Generation,
    cond: Any,
    steps: Any,
    cache: StepCache | None = None,
    *,
    config: DiTConfig,
    dtype: Any,
    whole: bool = False,
) -> Generation:
    """`steps` (an array: one program for any number) more; cond: (text [b, s, d], mask | None) or `Guided` of two.

    cache: of a generation that `remember` prepared for it. whole: the denoiser is told 1000·σ without its fraction.
    """
    return run(generation, _velocity(params, cond, cache, config, dtype, whole), cond, steps)


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
