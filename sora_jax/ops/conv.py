"""Convolutions over clips: y[t] = Σ_{i<k} W_i * x[t - (k-1) + i], so that no frame sees a later one.

A causal 3-D convolution is a sum over its temporal taps W_i of 2-D convolutions. On CPU it is computed so (XLA's 3-D
convolution there is slow); accelerators take the native one.
"""

import jax.numpy as jnp
from jax import lax

from sora_jax.typing import Array, Float, typed

_2D = ("NHWC", "HWIO", "NHWC")
_3D = ("NDHWC", "DHWIO", "NDHWC")


@typed
def conv2d(
    x: Float[Array, "b t h w c"],
    kernel: Float[Array, "kh kw c d"],
    stride: int = 1,
    padding: tuple[tuple[int, int], tuple[int, int]] = ((1, 1), (1, 1)),
) -> Float[Array, "b t h2 w2 d"]:
    """The same 2-D convolution of every frame; `padding` is ((top, bottom), (left, right))."""
    b, t = x.shape[:2]
    y = lax.conv_general_dilated(
        x.reshape(b * t, *x.shape[2:]), kernel, (stride, stride), padding, dimension_numbers=_2D
    )
    return y.reshape(b, t, *y.shape[1:])


def _native(x, kernel):
    kh, kw = kernel.shape[1:3]
    spatial = ((kh // 2, kh // 2), (kw // 2, kw // 2))
    return lax.conv_general_dilated(x, kernel, (1, 1, 1), ((0, 0), *spatial), dimension_numbers=_3D)


def _taps(x, kernel):
    k, kh, kw = kernel.shape[:3]
    frames = x.shape[1] - k + 1
    spatial = ((kh // 2, kh // 2), (kw // 2, kw // 2))
    return sum(conv2d(x[:, i : i + frames], kernel[i], 1, spatial) for i in range(k))


@typed
def conv3d(
    x: Float[Array, "b t h w c"], kernel: Float[Array, "k kh kw c d"]
) -> Float[Array, "b t2 h w d"]:
    """A 3-D convolution, zero-padded to the same size in space and not at all in time (kh and kw are odd)."""
    if x.shape[1] < kernel.shape[0]:
        return jnp.zeros((x.shape[0], 0, *x.shape[2:4], kernel.shape[-1]), x.dtype)
    return lax.platform_dependent(x, kernel, cpu=_taps, default=_native)


@typed
def temporal_conv(
    x: Float[Array, "b t h w c"], kernel: Float[Array, "k c d"], stride: int = 1
) -> Float[Array, "b t2 h w d"]:
    """A convolution along time only, unpadded: k matrix products."""
    k = kernel.shape[0]
    frames = (x.shape[1] - k) // stride + 1
    if frames < 1:
        return jnp.zeros((x.shape[0], 0, *x.shape[2:4], kernel.shape[-1]), x.dtype)
    stop = (frames - 1) * stride + 1
    return sum(x[:, i : i + stop : stride] @ kernel[i] for i in range(k))
