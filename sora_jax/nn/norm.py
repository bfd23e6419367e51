"""RMSNorm (arXiv 1910.07467) and LayerNorm (arXiv 1607.06450) over the last axis, computed in float32."""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax


def _trailing(v, ndim):
    return v.reshape((1,) * (ndim - 1) + (-1,))


class RMSNorm(nn.Module):
    """x / sqrt(mean(x²) + ε) · scale."""

    epsilon: float = 1e-6
    axis: str = "embed"

    @nn.compact
    def __call__(self, x):
        init = nn.with_logical_partitioning(nn.initializers.ones, (self.axis,))
        scale = self.param("scale", init, (x.shape[-1],), jnp.float32)
        y = x.astype(jnp.float32)
        y = y * lax.rsqrt(jnp.mean(jnp.square(y), axis=-1, keepdims=True) + self.epsilon)
        return (y * _trailing(scale, x.ndim)).astype(x.dtype)


class LayerNorm(nn.Module):
    """(x - mean) / sqrt(var + ε), then · scale + bias where `affine`."""

    epsilon: float = 1e-6
    affine: bool = False
    axis: str = "embed"

    @nn.compact
    def __call__(self, x):
        y = x.astype(jnp.float32)
        mean = jnp.mean(y, axis=-1, keepdims=True)
        var = jnp.mean(jnp.square(y - mean), axis=-1, keepdims=True)
        y = (y - mean) * lax.rsqrt(var + self.epsilon)
        if self.affine:
            scale = self.param(
                "scale",
                nn.with_logical_partitioning(nn.initializers.ones, (self.axis,)),
                (x.shape[-1],),
                jnp.float32,
            )
            bias = self.param(
                "bias",
                nn.with_logical_partitioning(nn.initializers.zeros, (self.axis,)),
                (x.shape[-1],),
                jnp.float32,
            )
            y = y * _trailing(scale, x.ndim) + _trailing(bias, x.ndim)
        return y.astype(x.dtype)
