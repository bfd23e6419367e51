"""Convolution layers for clips, causal in time, that can go on where the last chunk of a clip ended.

A clip may be given whole or in chunks. A layer that looks back keeps the frames it will need in the
collection "cache": apply the first chunk with `mutable=["cache"]` and no cache, and every later one with the
cache that came back. Without that collection a call is a whole clip. Parameters are float32; products are in
`dtype`.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sora_jax.ops.conv import conv2d, conv3d, depthwise, temporal_conv
from sora_jax.ops.layout import gather

KERNEL = nn.initializers.lecun_normal()


def is_first_chunk(module: nn.Module, name: str) -> bool:
    """Whether this call starts a clip: no earlier chunk left `name` in the cache."""
    return not module.has_variable("cache", name)


def remember(module: nn.Module, name: str, value) -> None:
    """Keeps `value` for the clip's next chunk, where the caller asked for a cache."""
    if module.is_mutable_collection("cache") and not module.is_initializing():
        module.put_variable("cache", name, value)


def _look_back(module, x, frames):
    """x with the `frames` frames before it: zeros at the clip's start, the last chunk's end later."""
    if is_first_chunk(module, "frames"):
        before = jnp.zeros((x.shape[0], frames, *x.shape[2:]), x.dtype)
    else:
        before = module.get_variable("cache", "frames")
    x = jnp.concatenate([before, x], axis=1)
    remember(module, "frames", x[:, x.shape[1] - frames :])
    return x


class _Conv(nn.Module):
    features: int
    dtype: jnp.dtype = jnp.float32
    kernel_init: Callable = KERNEL

    def parameters(self, window: tuple[int, ...], channels: int):
        axes = (*(None for _ in window), "conv_in", "conv_out")
        kernel: Any = self.param(
            "kernel",
            nn.with_logical_partitioning(self.kernel_init, axes),
            (*window, channels, self.features),
            jnp.float32,
        )
        bias: Any = self.param(
            "bias",
            nn.with_logical_partitioning(nn.initializers.zeros, ("conv_out",)),
            (self.features,),
            jnp.float32,
        )
        bias = gather(bias.astype(self.dtype), axes[-1:])
        return gather(kernel.astype(self.dtype), axes), bias.reshape(1, 1, 1, 1, -1)


class CausalConv3D(_Conv):
    """A 3x3x3 convolution [b,t,h,w,c] -> [b,t,h,w,features]; before the clip's first frame are zeros."""

    @nn.compact
    def __call__(self, x):
        kernel, bias = self.parameters((3, 3, 3), x.shape[-1])
        return conv3d(_look_back(self, x.astype(self.dtype), 2), kernel) + bias


class CausalTimeConv(_Conv):
    """A 3x1x1 convolution [b,t,h,w,c] -> [b,t,h,w,features]; before the clip's first frame are zeros."""

    @nn.compact
    def __call__(self, x):
        kernel, bias = self.parameters((3,), x.shape[-1])
        return temporal_conv(_look_back(self, x.astype(self.dtype), 2), kernel) + bias


class HalveFrames(_Conv):
    """[b,1+2n,h,w,c] -> [b,1+n,h,w,features]: the first frame is kept, the rest are convolved with stride 2."""

    @nn.compact
    def __call__(self, x):
        kernel, bias = self.parameters((3,), x.shape[-1])
        x = x.astype(self.dtype)
        if is_first_chunk(self, "frames"):
            y = jnp.concatenate([x[:, :1], temporal_conv(x, kernel, stride=2) + bias], axis=1)
        else:
            seen = jnp.concatenate([self.get_variable("cache", "frames"), x], axis=1)
            y = temporal_conv(seen, kernel, stride=2) + bias
        remember(self, "frames", x[:, -1:])
        return y


class Conv2D(_Conv):
    """A 3x3 convolution of every frame, zero-padded to the same size."""

    @nn.compact
    def __call__(self, x):
        kernel, bias = self.parameters((3, 3), x.shape[-1])
        return conv2d(x.astype(self.dtype), kernel) + bias


class HalveSize(_Conv):
    """A 3x3 convolution of every frame with stride 2, zero-padded on the right and the bottom only."""

    @nn.compact
    def __call__(self, x):
        kernel, bias = self.parameters((3, 3), x.shape[-1])
        return conv2d(x.astype(self.dtype), kernel, 2, ((0, 1), (0, 1))) + bias


class Neighbours(nn.Module):
    """A 3x3 filter for each entry of the tokens x [b, n, d], which lie in frames as `grid` (t, h, w) says.

    Its result, which starts at 0, is meant to be added.
    """

    grid: tuple[int, ...]
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        init = nn.with_logical_partitioning(nn.initializers.zeros, (None, None, "embed"))
        taps: Any = self.param("taps", init, (3, 3, x.shape[-1]), jnp.float32)  # pyright: ignore[reportArgumentType]
        frames = x.reshape(x.shape[0], *self.grid, x.shape[-1])
        return depthwise(frames, taps.astype(self.dtype)).reshape(x.shape)
