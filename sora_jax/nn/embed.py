"""Noise level, text and image as the transformer takes them in.

The level's sinusoids are (cos tω_i, sin tω_i), ω_i = 10000^(-i/half) (arXiv 2006.11239); an MLP reads them.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm
from sora_jax.typing import Array, Float, typed

NORMAL = nn.initializers.normal(0.02)


@typed
def sinusoids(t: Float[Array, "*n"], width: int) -> Float[Array, "*n width"]:
    """Cosines, then sines, of t·ω_i. `t` is the timestep in [0, 1000]."""
    if width % 2:
        raise ValueError(f"a sinusoid width of {width} is odd: use an even one.")
    half = width // 2
    # Exponents are rounded to float32 as in the published network: at t = 1000 that shows in the fifth digit.
    exponents = np.float32(-np.log(10_000.0)) * np.arange(half, dtype=np.float32) / np.float32(half)
    omega = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angle = t.astype(jnp.float32)[..., None] * omega.reshape((1,) * t.ndim + (half,))
    return jnp.concatenate([jnp.cos(angle), jnp.sin(angle)], axis=-1)


class TimeEmbedding(nn.Module):
    """Timesteps [b, g] -> the level's vector [b, g, width], in float32: it steers every block."""

    width: int
    freq_width: int = 256

    @nn.compact
    def __call__(self, t):
        x = sinusoids(t, self.freq_width)
        x = Linear(self.width, ("freq", "mlp"), kernel_init=NORMAL, name="inner")(x)
        return Linear(self.width, ("mlp", "embed"), kernel_init=NORMAL, name="outer")(jax.nn.silu(x))


class TextProjection(nn.Module):
    """Text features [b, s, d] -> [b, s, width]: two layers, tanh-GELU between (PixArt, arXiv 2310.00426)."""

    width: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = Linear(self.width, ("text", "mlp"), dtype=self.dtype, name="inner")(x)
        return Linear(self.width, ("mlp", "embed"), dtype=self.dtype, name="outer")(
            jax.nn.gelu(x, approximate=True)
        )


class ImageProjection(nn.Module):
    """Tokens of an image encoder [b, m, e] -> [b, m, width]: norm, two layers with exact GELU between, norm.

    `positions` is the count of learned places that are added first, as many as there are tokens (Wan's
    networks of a first and a last frame, whose tokens come one image after the other).
    """

    width: int
    positions: int | None = None
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        if self.positions is not None:
            if x.shape[1] != self.positions:
                raise ValueError(
                    f"{x.shape[1]} image tokens: this network takes {self.positions}, those of a first and a "
                    "last image."
                )
            init = nn.with_logical_partitioning(nn.initializers.zeros, (None, "embed"))
            table: Any = self.param("positions", init, (self.positions, x.shape[-1]), jnp.float32)
            x = x + table.astype(x.dtype)[None]
        x = LayerNorm(1e-5, affine=True, axis="text", name="norm_in")(x)
        x = Linear(x.shape[-1], ("text", "mlp"), dtype=self.dtype, name="inner")(x)
        x = jax.nn.gelu(x, approximate=False)
        x = Linear(self.width, ("mlp", "embed"), dtype=self.dtype, name="outer")(x)
        return LayerNorm(1e-5, affine=True, name="norm_out")(x)
