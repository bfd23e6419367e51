"""The parts of the causal video autoencoder: residual and attention blocks, changes of resolution.

All take and give [b,t,h,w,c] and can be run on a clip in chunks (see `sora_jax.nn.conv`).
"""

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from sora_jax.nn.conv import (
    CausalConv3D,
    CausalTimeConv,
    Conv2D,
    HalveFrames,
    HalveSize,
    is_first_chunk,
    remember,
)
from sora_jax.nn.linear import Linear
from sora_jax.ops.attention import attention
from sora_jax.ops.layout import lay_out
from sora_jax.ops.pixel_shuffle import average_down, duplicate_up

CONV_AXES = ("conv_in", "conv_out")


class UnitNorm(nn.Module):
    """√c · x / max(‖x‖, 1e-12) · scale over the channels: an RMSNorm whose ε guards only the zero vector."""

    @nn.compact
    def __call__(self, x):
        c = x.shape[-1]
        init = nn.with_logical_partitioning(nn.initializers.ones, ("conv_in",))
        scale = self.param("scale", init, (c,), jnp.float32)
        y = x.astype(jnp.float32)
        # The square is bounded, not the root: the root's gradient at zero would be infinite.
        y = y * lax.rsqrt(jnp.maximum(jnp.sum(jnp.square(y), axis=-1, keepdims=True), 1e-24))
        return (y * (c**0.5 * scale).reshape(1, 1, 1, 1, c)).astype(x.dtype)


class ResBlock(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), a 1x1x1 convolution on the shortcut where the width changes.

    The second convolution starts at zero, so that a new network begins as its shortcuts (arXiv 1901.09321).
    """

    features: int
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        x = lay_out(x)
        h = CausalConv3D(self.features, self.dtype, name="conv1")(nn.silu(UnitNorm(name="norm1")(x)))
        last = CausalConv3D(self.features, self.dtype, kernel_init=nn.initializers.zeros, name="conv2")
        h = last(nn.silu(UnitNorm(name="norm2")(h)))
        if x.shape[-1] != self.features:
            x = Linear(self.features, CONV_AXES, dtype=self.dtype, name="shortcut")(x)
        return lay_out(x + h)


class FrameAttention(nn.Module):
    """One head of attention among the pixels of each frame, plus the input."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        b, t, h, w, c = x.shape
        tokens = UnitNorm(name="norm")(x).reshape(b * t, h * w, 1, c)
        q, k, v = jnp.split(Linear(3 * c, CONV_AXES, dtype=self.dtype, name="qkv")(tokens), 3, axis=-1)
        out = attention(q, k, v).reshape(b, t, h, w, c)
        return x + Linear(c, CONV_AXES, dtype=self.dtype, name="out")(out)


class MidBlock(nn.Module):
    """Residual block, attention, residual block."""

    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        x = ResBlock(features, self.dtype, name="block_0")(x)
        x = FrameAttention(self.dtype, name="attention")(x)
        return ResBlock(features, self.dtype, name="block_1")(x)


class Downsample(nn.Module):
    """With `spatial` half the height and width; with `temporal` 1+2n frames become 1+n."""

    temporal: bool
    spatial: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        features = x.shape[-1]
        x = HalveSize(features, self.dtype, name="space")(x) if self.spatial else x
        return HalveFrames(features, self.dtype, name="time")(x) if self.temporal else x


class Upsample(nn.Module):
    """With `spatial` twice the height and width; with `temporal` 1+n frames become 1+2n.

    The clip's first frame takes no part in the temporal convolution, neither as output nor as context.
    """

    features: int
    temporal: bool
    spatial: bool = True
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        if self.temporal:
            first = is_first_chunk(self, "started")
            remember(self, "started", jnp.ones((), bool))
            kept, rest = (x[:, :1], x[:, 1:]) if first else (x[:, :0], x)
            b, t, h, w, c = rest.shape
            rest = CausalTimeConv(2 * c, self.dtype, name="time")(rest)
            rest = rest.reshape(b, t, h, w, 2, c).transpose(0, 1, 4, 2, 3, 5).reshape(b, 2 * t, h, w, c)
            x = jnp.concatenate([kept.astype(self.dtype), rest], axis=1)
        if self.spatial:
            x = jnp.repeat(jnp.repeat(x, 2, axis=2), 2, axis=3)
        return Conv2D(self.features, self.dtype, name="space")(x)


class DownLevel(nn.Module):
    """Residual blocks, then half the resolution if `downsample`; plus the averaged input if `shortcut`."""

    features: int
    blocks: int
    downsample: bool
    temporal: bool
    spatial: bool
    shortcut: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        start = x
        for i in range(self.blocks):
            x = ResBlock(self.features, self.dtype, name=f"block_{i}")(x)
        if self.downsample:
            x = Downsample(self.temporal, self.spatial, self.dtype, name="downsample")(x)
        if self.shortcut:
            x = x + average_down(start, self.features, 1 + self.temporal, 1 + self.spatial)
        return x


class UpLevel(nn.Module):
    """Residual blocks, then twice the resolution if `upsample`; plus the repeated input if `shortcut`.

    Without shortcuts upsampling also halves the width (Wan 2.1); with them it keeps it (Wan 2.2).
    """

    features: int
    blocks: int
    upsample: bool
    temporal: bool
    spatial: bool
    shortcut: bool
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        start = x
        first = is_first_chunk(self, "started")
        remember(self, "started", jnp.ones((), bool))
        for i in range(self.blocks):
            x = ResBlock(self.features, self.dtype, name=f"block_{i}")(x)
        if self.upsample:
            width = self.features if self.shortcut else self.features // 2
            x = Upsample(width, self.temporal, self.spatial, self.dtype, name="upsample")(x)
            if self.shortcut:
                x = x + duplicate_up(start, self.features, 1 + self.temporal, 1 + self.spatial, first)
        return x
