"""Clips that are too large to be coded whole: overlapping tiles of one size, each coded in chunks of time.

    clip = Σ w_i · decode(z[tile_i]) / Σ w_i,    w_i falling to 0 towards an inner edge, across the overlap

A tile's convolutions see zeros beyond its edge and its attention no other tile, so the result is near the whole's, not
equal to it; where two tiles meet, each counts least where it knows least. One program serves all tiles, and what is
put together lies on the host: the device holds one chunk of one tile at a time.
"""

import dataclasses
from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sora_jax.models.vae import VAEConfig, decode_stream, encode_chunked
from sora_jax.typing import Float

TILE_SIDES = (128, 96, 64, 48, 32, 24, 16)
"""Latents along a tile, largest first; a quarter of it overlaps."""
WORKING_FEATURES = 6
"""Copies of the widest features that the decoder's finest level works on at once. With 6, what XLA's CPU compiler
reports of Wan 2.1's and 2.2's decoders at a width of 16 is 0.6 to 0.75 of the estimate whole, 0.85 to 1 in chunks."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tiles:
    """Sizes in latents. A tile larger than the clip is the clip; `chunk` latent frames are coded at a time."""

    height: int
    width: int
    overlap: int = 0
    chunk: int = 1

    def __post_init__(self):
        if not 0 <= self.overlap <= min(self.height, self.width) // 2:
            raise ValueError(
                f"tiles of {self.height} x {self.width} latents overlap by {self.overlap}: give at most half a side."
            )
        if self.height < 1 or self.width < 1 or self.chunk < 1:
            raise ValueError(
                f"tiles of {self.chunk} x {self.height} x {self.width} latents: give at least 1 of each."
            )

    def count(self, height: int, width: int) -> int:
        """Tiles that cover a clip of height x width latents."""
        return len(_starts(height, self.height, self.overlap)) * len(_starts(width, self.width, self.overlap))


def _starts(length: int, tile: int, overlap: int) -> list[int]:
    """Where tiles start so that they cover `length`; the last one is moved back to its end."""
    if tile >= length:
        return [0]
    stride = tile - overlap
    count = -(-(length - overlap) // stride)
    return [min(i * stride, length - tile) for i in range(count)]


def _weight(start: int, tile: int, length: int, overlap: int) -> Float[np.ndarray, "tile"]:
    """1 inside, and across the overlap down to 0 at an edge that isn't the clip's."""
    rise = (np.arange(tile, dtype=np.float32) + 0.5) / max(overlap, 1)
    weight = np.ones(tile, np.float32)
    if start > 0:
        weight = np.minimum(weight, rise)
    if start + tile < length:
        weight = np.minimum(weight, rise[::-1])
    return weight


def _layout(
    height: int, width: int, tiles: Tiles, factor: int
) -> Iterator[tuple[int, int, int, int, np.ndarray]]:
    """(row, column, rows, columns) of every tile, in latents, and its weight [rows·factor, columns·factor]."""
    rows, columns = min(tiles.height, height), min(tiles.width, width)
    for row in _starts(height, rows, tiles.overlap):
        down = _weight(row * factor, rows * factor, height * factor, tiles.overlap * factor)
        for column in _starts(width, columns, tiles.overlap):
            across = _weight(column * factor, columns * factor, width * factor, tiles.overlap * factor)
            yield row, column, rows, columns, down[:, None] * across[None, :]


def _window(row: int, column: int, rows: int, columns: int, factor: int = 1) -> tuple[slice, ...]:
    return (
        slice(None),
        slice(None),
        slice(row * factor, (row + rows) * factor),
        slice(column * factor, (column + columns) * factor),
    )


def decode_tiled(
    params: Any, z: Any, config: VAEConfig, tiles: Tiles, dtype: Any = jnp.float32
) -> Float[np.ndarray, "b t h w 3"]:
    """`VAE.decode` with the memory of one chunk of one tile on the device; z: raw latents [b, t', h', w', c]."""
    z = np.asarray(z)
    b, t, height, width, _ = z.shape
    factor = config.spatial_factor
    pixels = np.zeros(
        (b, 1 + (t - 1) * config.temporal_factor, height * factor, width * factor, 3), np.float32
    )
    total = np.zeros(pixels.shape[2:4], np.float32)
    for *place, weight in _layout(height, width, tiles, factor):
        row, column, rows, columns = place
        inside = pixels[_window(row, column, rows, columns, factor)]
        total[_window(row, column, rows, columns, factor)[2:]] += weight
        frame = 0
        for chunk in decode_stream(
            params, z[_window(row, column, rows, columns)], config, tiles.chunk, dtype
        ):
            inside[:, frame : frame + chunk.shape[1]] += weight[None, None, :, :, None] * np.asarray(chunk)
            frame += chunk.shape[1]
    pixels /= total[None, None, :, :, None]
    return pixels


def encode_tiled(
    params: Any, x: Any, config: VAEConfig, tiles: Tiles, dtype: Any = jnp.float32, mesh: Mesh | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """`VAE.encode` with the memory of one chunk of one tile on the device: raw (mean, logvar) of x [b, t, h, w, 3].

    `x` and `mesh` are as `encode_chunked` takes them.

    Raises ValueError, naming the nearest sizes that fit, for one that the config can't code.
    """
    x = np.asarray(x)
    shape = (x.shape[0], *config.latent_shape(*x.shape[1:4]))
    moments = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    total = np.zeros(shape[2:4], np.float32)
    for *place, weight in _layout(*shape[2:4], tiles, 1):
        row, column, rows, columns = place
        inside = _window(row, column, rows, columns)
        total[inside[2:]] += weight
        seen = x[_window(row, column, rows, columns, config.spatial_factor)]
        coded = encode_chunked(params, seen, config, tiles.chunk, dtype, mesh)
        for sum_, part in zip(moments, coded, strict=True):
            sum_[inside] += weight[None, None, :, :, None] * np.asarray(part)
    return moments[0] / total[None, None, :, :, None], moments[1] / total[None, None, :, :, None]


def decoder_bytes(
    vae: VAEConfig, clips: int, frames: int, height: int, width: int, chunked: bool = False
) -> int:
    """Of decoding `frames` frames of height x width pixels at once; `chunked` adds the frames that a chunk leaves."""
    positions = (height // vae.patch_size) * (width // vae.patch_size)
    features = vae.decoder_width * max(vae.multipliers[0], vae.multipliers[min(1, len(vae.multipliers) - 1)])
    work = WORKING_FEATURES * frames * features
    # Two frames before every convolution, as they come in and as they go out: the coarser levels have as many as the
    # finest.
    convolutions = 2 * (vae.res_blocks + 1) + 1
    left = 2 * 2 * 2 * convolutions * vae.decoder_width * vae.multipliers[0] if chunked else 0
    side = vae.spatial_factor
    logits = (height // side * (width // side)) ** 2 * (1 if chunked else -(-frames // vae.temporal_factor))
    return 4 * clips * (positions * (work + left) + logits)


def tile_bytes(vae: VAEConfig, tiles: Tiles) -> int:
    """Of decoding one chunk of one tile of one clip."""
    side = vae.spatial_factor
    frames = tiles.chunk * vae.temporal_factor
    return decoder_bytes(vae, 1, frames, tiles.height * side, tiles.width * side, chunked=True)


def plan_tiles(vae: VAEConfig, clips: int, latent: tuple[int, int, int], budget: int) -> Tiles | None:
    """How clips of latents (t, h, w) are coded within `budget` bytes: None is all at once, else one after another.

    In chunks of time alone where a whole frame fits, else in the largest tiles that do; in the smallest there are
    where none does.
    """
    t, h, w = latent
    side = vae.spatial_factor
    if decoder_bytes(vae, clips, 1 + (t - 1) * vae.temporal_factor, h * side, w * side) <= budget:
        return None
    sizes = [Tiles(height=side, width=side, overlap=side // 4) for side in TILE_SIDES if side < max(h, w)]
    sizes = [Tiles(height=h, width=w), *sizes]
    return next((tiles for tiles in sizes if tile_bytes(vae, tiles) <= budget), sizes[-1])
