"""Convolutions over clips: y[t] = Σ_{i<k} W_i * x[t - (k-1) + i], so that no frame sees a later one.

On CPU a 3-D convolution is the sum over its temporal taps W_i of 2-D convolutions (XLA's 3-D convolution is slow
there), with the kernel's gradient as matrix products; `sora-jax bench ops` has the figures. Accelerators take the
native convolution, but for clips that are cut over devices.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from sora_jax.ops.layout import convolve_frames, is_cut
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
    rows, columns = padding

    def convolve(x, kernel, rows):
        b, t = x.shape[:2]
        y = lax.conv_general_dilated(
            x.reshape(b * t, *x.shape[2:]), kernel, (stride, stride), (rows, columns), dimension_numbers=_2D
        )
        return y.reshape(b, t, *y.shape[1:])

    return convolve_frames(convolve, x, kernel, rows, stride)


@typed
def conv3d(x: Float[Array, "b t h w c"], kernel: Float[Array, "k kh kw c d"]) -> Float[Array, "b t2 h w d"]:
    """A 3-D convolution, zero-padded to the same size in space and not at all in time (kh and kw are odd)."""
    if x.shape[1] < kernel.shape[0]:
        return jnp.zeros((x.shape[0], 0, *x.shape[2:4], kernel.shape[-1]), x.dtype)
    if is_cut():
        return plain_taps(x, kernel)  # pyright: ignore[reportReturnType]
    if min(x.shape[2:4]) < max(kernel.shape[1:3]):
        cpu = (
            patches  # XLA's CPU convolution falls to a plain loop where the frame is smaller than the kernel.
        )
    elif x.shape[-1] < 32:
        cpu = plain_taps  # The matrix products of the kernel's gradient are too narrow to be fast.
    else:
        cpu = taps
    return lax.platform_dependent(x, kernel, cpu=cpu, default=native)


def native(x, kernel):
    """`conv3d` as one convolution."""
    kh, kw = kernel.shape[1:3]
    spatial = ((kh // 2, kh // 2), (kw // 2, kw // 2))
    return lax.conv_general_dilated(x, kernel, (1, 1, 1), ((0, 0), *spatial), dimension_numbers=_3D)


def patches(x, kernel):
    """`conv3d` as k matrix products of every pixel's kh x kw neighbourhood."""
    k, kh, kw, c, d = kernel.shape
    frames = x.shape[1] - k + 1
    near = jnp.concatenate(_shifted(x, kh, kw), axis=-1)
    return sum(near[:, i : i + frames] @ kernel[i].reshape(kh * kw * c, d) for i in range(k))  # pyright: ignore[reportReturnType]


def plain_taps(x, kernel):
    """`conv3d` as a sum of 2-D convolutions, one a temporal tap."""
    k, kh, kw = kernel.shape[:3]
    frames = x.shape[1] - k + 1
    spatial = ((kh // 2, kh // 2), (kw // 2, kw // 2))
    return sum(conv2d(x[:, i : i + frames], kernel[i], 1, spatial) for i in range(k))  # pyright: ignore[reportReturnType]


@jax.custom_vjp
def taps(x, kernel):
    """`plain_taps` with a faster gradient of the kernel."""
    return plain_taps(x, kernel)


def _taps_forward(x, kernel):
    return taps(x, kernel), (x, kernel)


def _taps_backward(saved, dy):
    """dW[i, p] = x shifted by p · dy delayed by i: a matrix product a pixel of the window, all delays at once."""
    x, kernel = saved
    k, kh, kw, c, d = kernel.shape
    (dx,) = jax.linear_transpose(lambda x: plain_taps(x, kernel), x)(dy)
    delayed = [jnp.pad(dy, ((0, 0), (i, k - 1 - i), (0, 0), (0, 0), (0, 0))) for i in range(k)]
    delayed = jnp.concatenate(delayed, axis=-1).reshape(-1, k * d)
    dw = jnp.stack([shift.reshape(-1, c).T @ delayed for shift in _shifted(x, kh, kw)])
    return dx, dw.reshape(kh, kw, c, k, d).transpose(3, 0, 1, 2, 4)


taps.defvjp(_taps_forward, _taps_backward)


@typed
def depthwise(x: Float[Array, "b t h w c"], kernel: Float[Array, "kh kw c"]) -> Float[Array, "b t h w c"]:
    """A 2-D filter of its own for each channel of each frame, zero-padded to the same size (kh and kw are odd).

    A sum of shifted copies, as there are too few products an entry for a matrix product. x is made first: XLA would
    make it anew for each copy.
    """
    return _depthwise(lax.optimization_barrier(x), kernel)


@jax.custom_vjp
def _depthwise(x, kernel):
    kh, kw, c = kernel.shape
    taps = kernel.reshape(kh * kw, 1, 1, 1, 1, c)
    return sum(copy * tap for copy, tap in zip(_shifted(x, kh, kw), taps, strict=True))


def _depthwise_forward(x, kernel):
    return _depthwise(x, kernel), (x, kernel)


def _depthwise_backward(saved, dy):
    """dW[i] = Σ x shifted by i · dy, summed by a matrix product: XLA's CPU sums over rows slowly."""
    x, kernel = saved
    dx = _depthwise(lax.optimization_barrier(dy), kernel[::-1, ::-1])
    dy = dy.reshape(-1, dy.shape[-1])
    ones = jnp.ones((1, dy.shape[0]), dy.dtype)
    dw = [ones @ (copy.reshape(dy.shape) * dy) for copy in _shifted(x, *kernel.shape[:2])]
    return dx, jnp.concatenate(dw).reshape(kernel.shape)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)


def _shifted(x, kh, kw):
    """x moved by every offset of a kh x kw window, zeros coming in at the border."""
    h, w = x.shape[2:4]
    x = jnp.pad(x, ((0, 0), (0, 0), (kh // 2, kh // 2), (kw // 2, kw // 2), (0, 0)))
    return [x[:, :, i : i + h, j : j + w] for i in range(kh) for j in range(kw)]


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
    products = [x[:, i : i + stop : stride] @ kernel[i] for i in range(k)]
    return functools.reduce(jnp.add, products)
