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

from sora_jax.models.vae import VAEConfig, decode_stream, encode_chunked
from sora_jax.typing import Float


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
    params: Any, x: Any, config: VAEConfig, tiles: Tiles, dtype: Any = jnp.float32
) -> tuple[np.ndarray, np.ndarray]:
    """`VAE.encode` with the memory of one chunk of one tile on the device: raw (mean, logvar) of x [b, t, h, w, 3].

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
        coded = encode_chunked(params, seen, config, tiles.chunk, dtype)
        for sum_, part in zip(moments, coded, strict=True):
            sum_[inside] += weight[None, None, :, :, None] * np.asarray(part)
    return moments[0] / total[None, None, :, :, None], moments[1] / total[None, None, :, :, None]
