"""The compiled programs of sampling. Parameters are arguments: one program for all weights.

tokens, seeds -> text features, noise;   (noise, text) -> latents, a few steps at a time;   latents <-> pixels

Each takes one more keyword, `spread_over`: the mesh that it is compiled for, where the parameters are cut over
several devices, and how tokens on different ones meet.
"""

import contextlib
import dataclasses
import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from sora_jax.diffusion import (
    FirstBlock,
    Generation,
    Guided,
    MagCache,
    Mixed,
    Sampler,
    StepCache,
    cached,
    guide,
    mix,
    prepare,
    run,
    start,
)
from sora_jax.models.dit import DiT, DiTConfig, timesteps
from sora_jax.models.dit_signals import first_block, modulated_input
from sora_jax.models.image import ImageConfig, ImageEncoder
from sora_jax.models.text import TextConfig, TextEncoder
from sora_jax.models.vae import VAE, VAEConfig, denormalize, normalize
from sora_jax.parallel import spread
from sora_jax.parallel.context import Method

__all__ = [
    "Told",
    "advance",
    "begin",
    "decode",
    "denoise",
    "encode",
    "encode_image",
    "encode_text",
    "remember",
]


def _program(*static: str) -> Callable[[Callable], Any]:
    """Compiles a function whose arguments of these names are static, for the mesh that a call names."""

    def compiled(function: Callable) -> Any:
        def on_mesh(*args: Any, spread_over: tuple[Mesh, Method] | None = None, **options: Any) -> Any:
            with spread(*spread_over, whole_batch=True) if spread_over else contextlib.nullcontext():
                return function(*args, **options)

        functools.update_wrapper(on_mesh, function)
        del on_mesh.__wrapped__  # JAX would take its signature, which has no mesh
        return jax.jit(on_mesh, static_argnames=(*static, "spread_over"))

    return compiled


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

    def joined(self, x: Any) -> Any:
        """x [b, t, h, w, c] with what lies beside it."""
        return x if self.beside is None else jnp.concatenate([x, self.beside.astype(x.dtype)], axis=-1)


@_program("config", "dtype")
def encode_text(params: Any, ids: Any, mask: Any, *, config: TextConfig, dtype: Any) -> jax.Array:
    """Token ids and mask [b, s] -> features [b, s, d]."""
    return TextEncoder(config, dtype).apply({"params": params}, ids, mask)  # pyright: ignore


@_program("config", "dtype")
def encode_image(params: Any, pixels: Any, *, config: ImageConfig, dtype: Any) -> jax.Array:
    """Pictures as `models.image.prepare` gives them, [b, side, side, 3] -> tokens [b, m, e]."""
    tokens, _ = ImageEncoder(config, dtype).apply({"params": params}, pixels)  # pyright: ignore
    return tokens


@_program("config", "dtype", "masked")
def denoise(
    params: Any,
    x: Any,
    timestep: Any,
    text: Any,
    image: Any = None,
    *,
    config: DiTConfig,
    dtype: Any,
    masked: bool,
) -> jax.Array:
    """One evaluation of the denoiser; `masked` hides the text's padding from it."""
    # The encoder gives 0 for padding and nothing else.
    mask = jnp.any(text != 0, axis=-1) if masked else None
    inputs = (x, timestep, text, mask, None, image)
    return DiT(config, dtype).apply({"params": params}, *inputs)  # pyright: ignore


@_program("shape", "sampler")
def begin(
    seeds: Any,
    sigmas: Any,
    known: Any = None,
    unknown: Any = None,
    source: Any = None,
    noise: Any = None,
    *,
    shape: tuple[int, int, int, int],
    sampler: Sampler,
) -> Generation:
    """The generation before its first step.

    seeds: uint32 [b]; shape: (t, h, w, c) of one clip's latents; the others: as `diffusion.start` takes them.
    """
    # A key for each clip, so that its noise is the same in any batch.
    keys = jax.vmap(jax.random.key)(seeds)
    generation = start(
        keys,
        (seeds.shape[0], *shape),
        sigmas,
        stepper=sampler.stepper,
        known=known,
        unknown=unknown,
        source=source,
        noise=noise,
    )
    mask = generation.unknown
    # Of one shape, whatever is known.
    mask = jnp.broadcast_to(mask, (mask.shape[0], shape[0], *mask.shape[2:]))
    return dataclasses.replace(generation, unknown=mask)


def _velocity(
    params: Any, cond: Any, cache: StepCache | None, config: DiTConfig, dtype: Any, whole: bool
) -> Any:
    """The denoiser as the sampler takes it: guided where `cond` is, evaluated as the cache's rule says."""

    def level(sigma):
        told = timesteps(sigma, config.patch)
        return jnp.floor(told) if whole else told

    def velocity(x, sigma, told: Told) -> Any:
        inputs = (told.joined(x), level(sigma), told.text, told.mask, None, told.image)
        return DiT(config, dtype).apply({"params": params}, *inputs)  # pyright: ignore

    def signal(x, sigma, cond):
        told = cond.positive if isinstance(cond, Guided) else cond
        told: Told = jax.tree.map(lambda a: a[0], told.parts) if isinstance(told, Mixed) else told
        inputs = (params, told.joined(x), level(sigma))
        if isinstance(cache.rule, FirstBlock):  # pyright: ignore[reportOptionalMemberAccess]
            return first_block(*inputs, told.text, told.mask, told.image, config, dtype)
        return modulated_input(*inputs, config, dtype)

    several = isinstance(cond.positive if isinstance(cond, Guided) else cond, Mixed)
    one = mix(velocity) if several else velocity
    guided = guide(one, batched=not several) if isinstance(cond, Guided) else one
    if cache is None:
        return guided
    return cached(guided, cache, None if isinstance(cache.rule, MagCache) else signal)


def remember(
    params: Any, generation: Generation, cond: Any, cache: StepCache, *, config: DiTConfig, dtype: Any
) -> Generation:
    """The generation with room for what `advance` with this cache remembers."""
    return prepare(generation, _velocity(params, cond, cache, config, dtype, False), cond)


@_program("config", "dtype", "whole")
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
    """`steps` (an array: one program for any number) more; cond: `Told`, `Mixed` of some, or `Guided` of two.

    cache: of a generation that `remember` prepared for it. whole: the denoiser is told 1000·σ without its fraction.
    """
    return run(generation, _velocity(params, cond, cache, config, dtype, whole), cond, steps)


@_program("config", "dtype")
def encode(params: Any, pixels: Any, *, config: VAEConfig, dtype: Any) -> jax.Array:
    """Pixels [b, t, h, w, 3] in [-1, 1] -> normalised latents (the mean)."""
    mean, _ = VAE(config, dtype).apply({"params": params}, pixels, method="encode")  # pyright: ignore
    return normalize(mean, config)


@_program("config", "dtype")
def decode(params: Any, latents: Any, *, config: VAEConfig, dtype: Any) -> jax.Array:
    """Normalised latents -> pixels in [-1, 1], clipped."""
    z = denormalize(latents, config)
    pixels = VAE(config, dtype).apply({"params": params}, z, method="decode")  # pyright: ignore
    return jnp.clip(pixels.astype(jnp.float32), -1.0, 1.0)  # pyright: ignore
