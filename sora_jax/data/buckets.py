"""Sizes for clips of many shapes and lengths that cost about the same:  t'·rows·columns ≈ the tokens of one size.

A clip is brought to the size of its bucket, and a batch is of one bucket, so that no clip is padded (as in
NovelAI's aspect buckets, and in arXiv 2307.06304 for what padding costs).
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["Bucket", "choose_bucket", "make_buckets"]


class Bucket(NamedTuple):
    """What a clip is brought to: frames, and height and width in pixels."""

    frames: int
    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.frames}x{self.height}x{self.width}"


def make_buckets(
    frames: int,
    height: int,
    width: int,
    *,
    aspects: Sequence[str],
    lengths: Sequence[int],
    temporal_factor: int,
    grid: int,
) -> tuple[Bucket, ...]:
    """The size itself, and for every length and aspect ("16:9", width to height) a size of about as many tokens.

    A token is `grid` x `grid` pixels of a latent frame; a clip of n frames has 1 + (n - 1) / temporal_factor of
    those. Shorter clips are larger. Raises ValueError for a length that has no whole number of latent frames, a size
    off the grid, or a text that is no aspect.
    """
    for name, side in (("height", height), ("width", width)):
        if side < grid or side % grid:
            raise ValueError(
                f"clips: {name} is {side} and must be a multiple of {grid}, the pixels of a token."
            )
    for length in (frames, *lengths):
        if length < 1 or (length - 1) % temporal_factor:
            raise ValueError(f"clips: {length} frames aren't 1 + {temporal_factor}·k: give such a length.")
    found = [Bucket(frames, height, width)]
    tokens = (1 + (frames - 1) // temporal_factor) * (height // grid) * (width // grid)
    ratios: list[float] = []
    for ratio in (width / height, *map(_ratio, aspects)):
        # Aspects that differ by less than a twentieth would only make smaller buckets.
        if all(abs(math.log(ratio / other)) >= 0.05 for other in ratios):
            ratios.append(ratio)
    for length, ratio in itertools.product(dict.fromkeys((frames, *lengths)), ratios):
        per_frame = tokens / (1 + (length - 1) // temporal_factor)
        found.append(Bucket(length, *(grid * side for side in _sides(per_frame, ratio))))
    return tuple(dict.fromkeys(found))


def _ratio(aspect: str) -> float:
    width, _, height = aspect.partition(":")
    try:
        ratio = float(width) / float(height)
    except (ValueError, ZeroDivisionError):
        ratio = math.nan
    if not 0.1 <= ratio <= 10:
        raise ValueError(f"clips: {aspect!r} is no aspect: give WIDTH:HEIGHT, as in 16:9, of at most 10:1.")
    return ratio


def _sides(tokens: float, ratio: float) -> tuple[int, int]:
    """(rows, columns) whose product and quotient are nearest to `tokens` and `ratio`."""
    rows, columns = math.sqrt(tokens / ratio), math.sqrt(tokens * ratio)
    near = [
        (max(y, 1), max(x, 1))
        for y in (math.floor(rows), math.ceil(rows))
        for x in (math.floor(columns), math.ceil(columns))
    ]
    return min(
        near, key=lambda s: 2 * abs(math.log(s[0] * s[1] / tokens)) + abs(math.log(s[1] / s[0] / ratio))
    )


def choose_bucket(buckets: Sequence[Bucket], frames: int, height: int, width: int) -> Bucket | None:
    """The bucket for a clip: the longest that it fills, and of those the nearest in aspect; None if it fills none."""
    fits = [bucket for bucket in buckets if bucket.frames <= frames]
    return max(
        fits,
        key=lambda b: (b.frames, -abs(math.log(b.width / b.height) - math.log(width / height))),
        default=None,
    )
