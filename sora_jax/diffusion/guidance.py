"""Classifier-free guidance (arXiv 2207.12598), towards a prompt and away from a negative one.

    v = v_u + g·(v_c - v_u)

Known frames are a condition as words are: where v_u sees them noised, the clip is guided towards what follows from
them, too (history guidance, arXiv 2502.06764).

The scale g is data: a number, one per clip or frame, or one per step (`PerStep`), as in guidance on an
interval of noise levels only (arXiv 2404.07724). g = 1 is the prompt alone; g = 0 the negative alone.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion.flow import align, interpolate
from sora_jax.typing import Array, Float, PyTree, typed


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["positive", "negative", "scale", "history"],
    meta_fields=[],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Guided:
    """The condition of a guided velocity: two conditions of one structure, the scale [], [b] or [b, t]."""

    positive: PyTree
    negative: PyTree
    scale: Array | float
    history: Array | float = 0.0
    """The noise level at which the negative sees known tokens; 1 is not at all."""


@functools.partial(jax.tree_util.register_dataclass, data_fields=["parts", "weights"], meta_fields=[])
@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixed:
    """k conditions of one structure, their leaves stacked [k, ...], and each one's share of each frame."""

    parts: PyTree
    weights: Float[Array, "k t"]


def mix(velocity: Callable) -> Callable:
    """The velocity function that also takes a `Mixed` condition: v[t] = Σ_k w[k, t]·v_k[t]."""

    def mixed(x, sigma, cond):
        if not isinstance(cond, Mixed):
            return velocity(x, sigma, cond)
        each = jax.vmap(velocity, in_axes=(None, None, 0))(x, sigma, cond.parts)
        return jnp.einsum("kbthwc,kt->bthwc", each, cond.weights.astype(each.dtype))

    return mixed


def guide(velocity: Callable, *, batched: bool = True, skip: bool = False) -> Callable:
    """The velocity function of a `Guided` condition, made of one of the plain conditions.

    Args:
        velocity: `velocity(x, sigma, cond) -> v`.
        batched: ask the model once with a batch of 2·b, or else twice with b. For the former every leaf of
            the conditions has a leading axis of b (or of 1 in the negative).
        skip: leave the negative out, at run time, in steps where the scale is 1 everywhere: half the work
            there, for compiling the model twice.
    """

    def guided(x, sigma, cond: Guided):
        scale = jnp.asarray(cond.scale, x.dtype)
        x_u, sigma_u = _forgotten(x, sigma, jnp.asarray(cond.history, x.dtype))

        def alone():
            return velocity(x, sigma, cond.positive)

        def both():
            if batched:
                twice = jax.tree.map(_stack, cond.positive, cond.negative)
                v = velocity(jnp.concatenate([x, x_u]), jnp.concatenate([sigma, sigma_u]), twice)
                v_c, v_u = jnp.split(v, 2)
            else:
                v_c, v_u = alone(), velocity(x_u, sigma_u, cond.negative)
            # v_u + g (v_c - v_u), written so that g = 1 gives v_c to the bit.
            return v_c + (align(scale, v_c) - 1).astype(v_c.dtype) * (v_c - v_u)

        return jax.lax.cond(jnp.all(scale == 1), alone, both) if skip else both()

    return guided


def _forgotten(x, sigma, level):
    """x [b, t, h, w, c] and its levels with known tokens noised to `level`: alike in every clip and every step."""
    eps = jax.random.normal(jax.random.key(0), x.shape[1:], x.dtype)
    noised = interpolate(x, jnp.broadcast_to(eps, x.shape), level)
    return jnp.where(align(sigma, x) == 0, noised, x), jnp.where(sigma == 0, level.astype(sigma.dtype), sigma)


def _stack(positive, negative):
    return jnp.concatenate([positive, jnp.broadcast_to(negative, positive.shape)])


@typed
def interval(
    sigmas: Float[np.ndarray, "levels"], scale: float | int, low: float | int, high: float | int
) -> Float[np.ndarray, "steps"]:
    """`scale` in the steps that start at a level in [low, high], else 1: a schedule for `PerStep`."""
    levels = sigmas[:-1]
    return np.where((levels >= low) & (levels <= high), scale, 1).astype(np.float32)


@typed
def ramp(steps: int, first: float | int, last: float | int) -> Float[np.ndarray, "steps"]:
    """From `first` to `last` in equal parts: a schedule for `PerStep`."""
    return np.linspace(first, last, steps, dtype=np.float32)
