"""Rectified flow (arXiv 2209.03003, 2403.03206).

    x_σ = (1 - σ)·x_0 + σ·ε,    v = dx_σ/dσ = ε - x_0,    x_0 = x_σ - σ·v,    ε = x_σ + (1 - σ)·v

σ = 0 is data and σ = 1 is noise. Every token has a level of its own, and a known token stays at level 0.
"""

import jax.numpy as jnp

from sora_jax.typing import Array, Bool, Float, typed


@typed
def align(a: Array, x: Array) -> Array:
    """`a` of shape [], [b], [b, t], [b, t, h, w], ... with trailing axes of one: it broadcasts over `x`."""
    if a.ndim > x.ndim:
        raise ValueError(
            f"levels of shape {a.shape} have more axes than the latents' {x.shape}; drop the last ones"
        )
    return a.reshape(a.shape + (1,) * (x.ndim - a.ndim))


@typed
def interpolate(
    x0: Float[Array, "*x"], eps: Float[Array, "*x"], sigma: Float[Array, "..."]
) -> Float[Array, "*x"]:
    """x_σ between data and noise; `sigma` in [0, 1] is [], [b], [b, t] or broadcasts as [b, t, h, w]."""
    sigma = align(sigma, x0)
    # Exact at both ends: a known token (σ = 0) is x_0 to the bit, and pure noise is ε.
    return (1 - sigma) * x0 + sigma * eps


@typed
def velocity(x0: Float[Array, "*x"], eps: Float[Array, "*x"]) -> Float[Array, "*x"]:
    """What the model is trained to say: ε - x_0."""
    return eps - x0


@typed
def data_from_velocity(
    x: Float[Array, "*x"], v: Float[Array, "*x"], sigma: Float[Array, "..."]
) -> Float[Array, "*x"]:
    """x_0 = x_σ - σ·v."""
    return x - align(sigma, x) * v


@typed
def noise_from_velocity(
    x: Float[Array, "*x"], v: Float[Array, "*x"], sigma: Float[Array, "..."]
) -> Float[Array, "*x"]:
    """ε = x_σ + (1 - σ)·v."""
    return x + (1 - align(sigma, x)) * v


@typed
def velocity_from_data(
    x: Float[Array, "*x"], x0: Float[Array, "*x"], sigma: Float[Array, "..."]
) -> Float[Array, "*x"]:
    """v = (x_σ - x_0) / σ, and 0 where σ is 0."""
    sigma = align(sigma, x)
    return jnp.where(sigma > 0, (x - x0) / jnp.where(sigma > 0, sigma, 1), 0)


@typed
def flow_loss(
    v: Float[Array, "b t h w c"],
    x0: Float[Array, "b t h w c"],
    eps: Float[Array, "b t h w c"],
    unknown: Bool[Array, "..."],
    weight: Float[Array, "..."] | None = None,
) -> Float[Array, ""]:
    """The mean of |v - (ε - x_0)|² over the unknown tokens of the batch, each token weighing the same.

    `unknown` is [b], [b, t] or broadcasts as [b, t, h, w]; so does `weight`, a factor on a token's share.
    The sum is in float32. A batch with nothing unknown has loss 0.
    """
    error = v.astype(jnp.float32) - velocity(x0, eps).astype(jnp.float32)
    # The known tokens' error is dropped, not multiplied by 0: it may be anything, even NaN, and so may its gradient.
    error = jnp.where(align(unknown, error), error, 0)
    share = align(unknown, error).astype(jnp.float32)
    if weight is not None:
        share = share * align(weight, error).astype(jnp.float32)
    share = jnp.broadcast_to(share, error.shape)
    return jnp.sum(share * jnp.square(error)) / jnp.maximum(jnp.sum(share), 1e-8)
