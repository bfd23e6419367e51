"""The causal 3-D variational autoencoder: clip x -> q(z|x) = N(mean, exp(logvar)) -> clip.

The network is Wan's (arXiv 2503.20314, section 4.1; arXiv 1312.6114 for the principle): a first frame alone and then
one latent frame for every `temporal_factor` frames, no frame seeing a later one, so that one frame is an image and a
clip of any length can be coded in chunks. Wan 2.1 codes 4x8x8 pixels into 16 channels; Wan 2.2 folds 2x2 pixels into
channels first, adds averaging and repeating shortcuts (arXiv 2410.10733), and codes 4x16x16 into 48.
"""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jax.sharding import Mesh

from sora_jax.models.vae_blocks import CONV_AXES, DownLevel, MidBlock, UnitNorm, UpLevel
from sora_jax.nn.conv import CausalConv3D, is_first_chunk
from sora_jax.nn.linear import Linear
from sora_jax.ops.pixel_shuffle import pixel_shuffle, pixel_unshuffle
from sora_jax.parallel import batch_sharding, spread
from sora_jax.typing import Array, Float, typed


@dataclass(frozen=True, kw_only=True)
class VAEConfig:
    """Sizes of a VAE. Widths are channels; `multipliers` has one entry a level, finest first.

    `temporal_downsample` says for each step between levels whether it halves the frames, `spatial_downsample` whether
    it halves the height and the width (all do where it isn't given). `latent_mean` and
    `latent_std` are one number a latent channel (0 and 1 where not given) and only serve `normalize`.
    """

    base_width: int
    decoder_width: int
    latent_channels: int
    multipliers: tuple[int, ...]
    res_blocks: int
    temporal_downsample: tuple[bool, ...]
    spatial_downsample: tuple[bool, ...] = ()
    residual_shortcuts: bool = False
    patch_size: int = 1
    latent_mean: tuple[float, ...] = ()
    latent_std: tuple[float, ...] = ()

    def __post_init__(self):
        for name in ("base_width", "decoder_width", "latent_channels", "res_blocks", "patch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: give at least 1.")
        steps = len(self.multipliers) - 1
        object.__setattr__(self, "spatial_downsample", tuple(self.spatial_downsample) or (True,) * steps)
        for name in ("temporal_downsample", "spatial_downsample"):
            if len(getattr(self, name)) != steps:
                raise ValueError(
                    f"{name} has {len(getattr(self, name))} entries for {len(self.multipliers)} multipliers: give "
                    f"{steps}, one for each step between levels."
                )
        for name, empty in (("latent_mean", 0.0), ("latent_std", 1.0)):
            values = tuple(getattr(self, name)) or (empty,) * self.latent_channels
            if len(values) != self.latent_channels:
                raise ValueError(
                    f"{name} has {len(values)} numbers: give {self.latent_channels}, one a channel."
                )
            object.__setattr__(self, name, values)
        if min(self.latent_std) <= 0:
            raise ValueError(f"latent_std holds {min(self.latent_std)}: every number must be above 0.")

    @property
    def temporal_factor(self) -> int:
        """Frames to a latent frame, after the first."""
        return 2 ** sum(self.temporal_downsample)

    @property
    def spatial_factor(self) -> int:
        """Pixels to a latent pixel, along the height and along the width."""
        return self.patch_size * 2 ** sum(self.spatial_downsample)

    def latent_shape(self, frames: int, height: int, width: int) -> tuple[int, int, int, int]:
        """(t, h, w, c) of the latents of a clip of this size.

        Raises ValueError, naming the nearest sizes that fit, for frames not 1 + k·temporal_factor, or a height or
        width not a multiple of spatial_factor.
        """
        ft, fs = self.temporal_factor, self.spatial_factor
        if frames < 1 or (frames - 1) % ft:
            raise ValueError(
                f"{frames} frames don't fit: the VAE codes 1 + k·{ft} frames; the nearest are "
                f"{_nearest(frames, ft, 1)}."
            )
        for name, size in (("height", height), ("width", width)):
            if size < 1 or size % fs:
                raise ValueError(
                    f"A {name} of {size} pixels doesn't fit: it must be a multiple of {fs}; the nearest are "
                    f"{_nearest(size, fs, 0)}."
                )
        return 1 + (frames - 1) // ft, height // fs, width // fs, self.latent_channels


def _nearest(size, step, offset):
    low = (size - offset) // step * step + offset
    fits = [n for n in (low, low + step) if n >= 1] or [offset or step]
    return " and ".join(map(str, fits))


# Published in the vae/config.json of Wan-AI/Wan2.1-T2V-1.3B-Diffusers and Wan-AI/Wan2.2-TI2V-5B-Diffusers (Apache-2.0).
VAE_WAN2_1 = VAEConfig(
    base_width=96,
    decoder_width=96,
    latent_channels=16,
    multipliers=(1, 2, 4, 4),
    res_blocks=2,
    temporal_downsample=(False, True, True),
    latent_mean=(
        *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
        *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
    ),
    latent_std=(
        *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
        *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
    ),
)
VAE_WAN2_2 = VAEConfig(
    base_width=160,
    decoder_width=256,
    latent_channels=48,
    multipliers=(1, 2, 4, 4),
    res_blocks=2,
    temporal_downsample=(False, True, True),
    residual_shortcuts=True,
    patch_size=2,
    latent_mean=(
        *(-0.2289, -0.0052, -0.1323, -0.2339, -0.2799, 0.0174, 0.1838, 0.1557),
        *(-0.1382, 0.0542, 0.2813, 0.0891, 0.1570, -0.0098, 0.0375, -0.1825),
        *(-0.2246, -0.1207, -0.0698, 0.5109, 0.2665, -0.2108, -0.2158, 0.2502),
        *(-0.2055, -0.0322, 0.1109, 0.1567, -0.0729, 0.0899, -0.2799, -0.1230),
        *(-0.0313, -0.1649, 0.0117, 0.0723, -0.2839, -0.2083, -0.0520, 0.3748),
        *(0.0152, 0.1957, 0.1433, -0.2944, 0.3573, -0.0548, -0.1681, -0.0667),
    ),
    latent_std=(
        *(0.4765, 1.0364, 0.4514, 1.1677, 0.5313, 0.4990, 0.4818, 0.5013),
        *(0.8158, 1.0344, 0.5894, 1.0901, 0.6885, 0.6165, 0.8454, 0.4978),
        *(0.5759, 0.3523, 0.7135, 0.6804, 0.5833, 1.4146, 0.8986, 0.5659),
        *(0.7069, 0.5338, 0.4889, 0.4917, 0.4069, 0.4999, 0.6866, 0.4093),
        *(0.5709, 0.6065, 0.6415, 0.4944, 0.5726, 1.2042, 0.5458, 1.6887),
        *(0.3971, 1.0600, 0.3943, 0.5537, 0.5444, 0.4089, 0.7468, 0.7744),
    ),
)
VAE_PLAYGROUND = VAEConfig(
    base_width=32,
    decoder_width=32,
    latent_channels=12,
    multipliers=(1, 2, 2),
    res_blocks=1,
    temporal_downsample=(True, True),
    spatial_downsample=(True, False),
    residual_shortcuts=True,
    patch_size=4,
)


class Encoder(nn.Module):
    """Unshuffled pixels [b,t,h,w,3·p²] -> moments [b,t',h',w',2·latent_channels]."""

    config: VAEConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        c = self.config
        last = len(c.multipliers) - 1
        x = CausalConv3D(c.base_width * c.multipliers[0], self.dtype, name="conv_in")(x)
        for i, multiplier in enumerate(c.multipliers):
            x = DownLevel(
                features=c.base_width * multiplier,
                blocks=c.res_blocks,
                downsample=i < last,
                temporal=i < last and c.temporal_downsample[i],
                spatial=i < last and c.spatial_downsample[i],
                shortcut=c.residual_shortcuts,
                dtype=self.dtype,
                name=f"level_{i}",
            )(x)
        x = MidBlock(self.dtype, name="mid")(x)
        x = nn.silu(UnitNorm(name="norm_out")(x))
        return CausalConv3D(2 * c.latent_channels, self.dtype, name="conv_out")(x)


class Decoder(nn.Module):
    """Latents [b,t',h',w',latent_channels] -> unshuffled pixels [b,t,h,w,3·p²]."""

    config: VAEConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, z):
        c = self.config
        last = len(c.multipliers) - 1
        x = CausalConv3D(c.decoder_width * c.multipliers[-1], self.dtype, name="conv_in")(z)
        x = MidBlock(self.dtype, name="mid")(x)
        for i, multiplier in enumerate(reversed(c.multipliers)):
            x = UpLevel(
                features=c.decoder_width * multiplier,
                blocks=c.res_blocks + 1,
                upsample=i < last,
                temporal=i < last and c.temporal_downsample[::-1][i],
                spatial=i < last and c.spatial_downsample[::-1][i],
                shortcut=c.residual_shortcuts,
                dtype=self.dtype,
                name=f"level_{i}",
            )(x)
        x = nn.silu(UnitNorm(name="norm_out")(x))
        return CausalConv3D(3 * c.patch_size**2, self.dtype, name="conv_out")(x)


def _nearly_certain(key, shape, dtype):
    """Means start at 0 and log-variances at -6: noise of unit variance would drown the means of a new network."""
    del key
    return jnp.where(jnp.arange(shape[0]) < shape[0] // 2, 0.0, -6.0).astype(dtype)


class VAE(nn.Module):
    """`VAE(config).apply({"params": p}, x, method="encode")`, or "decode"; called, it does both.

    A clip in chunks: see `encode_chunked` and `decode_chunked`.
    """

    config: VAEConfig
    dtype: jnp.dtype = jnp.float32

    def setup(self):
        self.encoder = Encoder(self.config, self.dtype)
        self.moments = Linear(
            2 * self.config.latent_channels, CONV_AXES, dtype=self.dtype, bias_init=_nearly_certain
        )
        self.unmoments = Linear(self.config.latent_channels, CONV_AXES, dtype=self.dtype)
        self.decoder = Decoder(self.config, self.dtype)

    def encode(self, x):
        """Pixels [b,t,h,w,3] in [-1, 1] -> raw (mean, logvar), each float32 [b,t',h',w',latent_channels].

        Raises ValueError, naming the nearest sizes that fit, for one that the config can't code.
        """
        if is_first_chunk(self, "encoder"):
            self.config.latent_shape(*x.shape[1:4])
        moments = self.moments(self.encoder(pixel_unshuffle(x, self.config.patch_size)))
        mean, logvar = jnp.split(moments.astype(jnp.float32), 2, axis=-1)
        return mean, jnp.clip(logvar, -30.0, 20.0)

    def decode(self, z):
        """Raw latents [b,t',h',w',latent_channels] -> pixels, float32 [b,t,h,w,3], not clamped to [-1, 1]."""
        x = self.decoder(self.unmoments(z))
        return pixel_shuffle(x, self.config.patch_size).astype(jnp.float32)

    def __call__(self, x):
        """Pixels -> (reconstruction of the mean, mean, logvar)."""
        mean, logvar = self.encode(x)
        return self.decode(mean), mean, logvar


@typed
def normalize(z: Float[Array, "b t h w c"], config: VAEConfig) -> Float[Array, "b t h w c"]:
    """Raw latents -> latents of about zero mean and unit variance, as the denoiser takes them."""
    return (z - _per_channel(config.latent_mean, z)) / _per_channel(config.latent_std, z)


@typed
def denormalize(z: Float[Array, "b t h w c"], config: VAEConfig) -> Float[Array, "b t h w c"]:
    """The inverse of `normalize`."""
    return z * _per_channel(config.latent_std, z) + _per_channel(config.latent_mean, z)


def _per_channel(values, z):
    return jnp.asarray(values, z.dtype).reshape(1, 1, 1, 1, -1)


def to_float(video):
    """uint8 pixels -> pixels in [-1, 1], float32."""
    return video.astype(jnp.float32) / 127.5 - 1.0


@partial(jax.jit, static_argnames=("config", "method", "dtype", "mesh"))
def apply_chunk(params, cache, x, config, method, dtype, mesh=None):
    """What `method` gives of one chunk, and {"cache": ...} for the next; `cache` is None for the first."""
    variables = {"params": params} | ({} if cache is None else {"cache": cache})
    x = to_float(x) if x.dtype == jnp.uint8 else x
    with spread(mesh) if mesh else nullcontext():
        out = VAE(config, dtype).apply(variables, x, method=method, mutable=["cache"])
    return lax.with_sharding_constraint(out, batch_sharding(mesh)) if mesh else out


def _chunks(params, x, config, method, starts, dtype, mesh=None):
    cache = None
    for start, stop in zip(starts, [*starts[1:], x.shape[1]], strict=True):
        part = x[:, start:stop]
        part = jax.device_put(part, batch_sharding(mesh)) if mesh else jnp.asarray(part)
        out, state = apply_chunk(params, cache, part, config, method, dtype, mesh)
        cache = state["cache"]
        yield out


def _starts(latent_frames, chunk, factor):
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: give at least 1 latent frame.")
    return [0, *(1 + i * factor for i in range(0, latent_frames - 1, chunk))]


def encode_chunked(
    params,
    x,
    config: VAEConfig,
    chunk: int = 1,
    dtype: jnp.dtype = jnp.float32,
    mesh: Mesh | None = None,
):
    """`VAE.encode` with the memory of `chunk` latent frames, whatever the clip's length.

    Args:
        x: pixels [b,t,h,w,3] in [-1, 1], or uint8; a NumPy array stays on the host but for the chunk at work.
        chunk: latent frames coded at a time, after the first, which is coded alone.
        mesh: where the parameters lie; the clips are cut over its data and fsdp axes, which divide b.

    Returns:
        (mean, logvar), equal to the whole clip's.
    """
    latent_frames = config.latent_shape(*x.shape[1:4])[0]
    starts = _starts(latent_frames, chunk, config.temporal_factor)
    means, logvars = zip(*_chunks(params, x, config, "encode", starts, dtype, mesh), strict=True)
    return jnp.concatenate(means, axis=1), jnp.concatenate(logvars, axis=1)


def decode_stream(params, z, config: VAEConfig, chunk: int = 1, dtype: jnp.dtype = jnp.float32) -> Iterator:
    """Pixels of a clip as they are decoded: first one frame, then up to chunk·temporal_factor at a time.

    Args:
        z: raw latents [b,t',h',w',c].
        chunk: latent frames decoded at a time, after the first, which is decoded alone.
    """
    return _chunks(params, z, config, "decode", _starts(z.shape[1], chunk, 1), dtype)


def decode_chunked(params, z, config: VAEConfig, chunk: int = 1, dtype: jnp.dtype = jnp.float32):
    """`VAE.decode` with the working memory of `chunk` latent frames, equal to the whole clip's."""
    return jnp.concatenate(list(decode_stream(params, z, config, chunk, dtype)), axis=1)
