"""Clips that people bring: files or values of any size and rate, as frames that fit the model."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from sora_jax.media import ENDINGS, Clip, from_uint8, read, to_uint8
from sora_jax.models.config import ModelConfig
from sora_jax.studio.size import MAX_FPS, parse_size, resolve_size, token_sides

__all__ = [
    "Opened",
    "Source",
    "at_rate",
    "fit_frames",
    "fit_mask",
    "keeps_size",
    "names_file",
    "open_clip",
    "sides_of",
]

Source = Clip | str | Path
"""A clip, or a file of one."""

READ = (*ENDINGS.split(), ".mov", ".mkv", ".jpg", ".jpeg")
"""Endings of files that clips are read from."""

KEEPS = 2.0
"""A clip keeps its own size from so small a part to so many times the pixels that the model makes by default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Opened:
    """A clip at the size and rate of an edit."""

    frames: np.ndarray
    """[n, h, w, 3] in [-1, 1]."""
    fps: float
    metadata: dict[str, Any]
    own: tuple[int, int]
    """The (height, width) that it came with."""

    def at(self, fps: float) -> "Opened":
        """The same at another rate."""
        return dataclasses.replace(self, frames=at_rate(self.frames, self.fps, fps), fps=fps)


def names_file(text: str) -> bool:
    """Whether these words are a file's name: there is one, or they end like one."""
    return Path(text).suffix.lower() in READ or os.path.isfile(text)


def open_clip(
    config: ModelConfig,
    source: Source,
    sides: Callable[[int, int], tuple[int, int]],
    fps: float | None = None,
) -> Opened:
    """The clip or its file's, read no larger than it is asked for.

    sides: (height, width) for its own. fps: its own rate unless given; of a picture's file the model's.

    Raises ValueError or OSError for a file that isn't one, as `media.read` does.
    """
    rate = resolve_size(config, fps=fps).fps
    own = (0, 0)

    def fitted(height: int, width: int) -> tuple[int, int]:
        nonlocal own
        own = height, width
        return sides(height, width)

    if isinstance(source, Clip):
        shown = source.fps if fps is None else rate
        frames = at_rate(source.frames, source.fps, shown)
        frames = fit_frames(frames, fitted(*frames.shape[1:3]))
        return Opened(frames=frames, fps=shown, metadata=source.metadata, own=own)
    clip = read(source, size=fitted, fps=fps)
    shown = rate if len(clip) == 1 else clip.fps
    return Opened(frames=clip.frames, fps=shown, metadata=clip.metadata, own=own)


def sides_of(
    config: ModelConfig, height: int, width: int, size: str | tuple[int, int] | None = None
) -> tuple[int, int]:
    """(height, width) that an edit of a clip has: `size`, or the clip's own, or the model's area in its shape."""
    if size is not None:
        asked = resolve_size(config, size=parse_size(size))
        return asked.height, asked.width
    along, across = token_sides(config)
    if height % along == 0 and width % across == 0 and keeps_size(config, height, width):
        return height, width
    asked = resolve_size(config, aspect=f"{width}:{height}")
    return asked.height, asked.width


def keeps_size(config: ModelConfig, height: int, width: int) -> bool:
    """Whether a clip has about as many pixels as the model makes."""
    times = height * width / (config.defaults.height * config.defaults.width)
    return 1 / KEEPS <= times <= KEEPS


def fit_frames(frames: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """float32 [n, h, w, 3] in [-1, 1] at (height, width): the middle at that aspect, scaled."""
    if frames.shape[1:3] == tuple(sides):
        return frames
    height, width = sides
    fitted = [
        np.asarray(ImageOps.fit(Image.fromarray(frame), (width, height), Image.Resampling.LANCZOS))
        for frame in to_uint8(frames)
    ]
    return from_uint8(np.stack(fitted))


def fit_mask(mask: np.ndarray, sides: tuple[int, int]) -> np.ndarray:
    """bool [..., h, w] at (height, width) as `fit_frames` fits frames; true wherever some of it is."""
    height, width = sides
    fitted = [
        np.asarray(ImageOps.fit(Image.fromarray(one), (width, height), Image.Resampling.BOX)) > 0
        for one in mask.reshape(-1, *mask.shape[-2:]).astype(np.uint8) * 255
    ]
    return np.stack(fitted).reshape(*mask.shape[:-2], height, width)


def at_rate(frames: np.ndarray, own: float, fps: float) -> np.ndarray:
    """Frames [n, h, w, 3] of `own` frames a second at another rate: each is what the clip shows at that moment.

    One frame is a picture, and stays one.
    """
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps is {fps:g} and must be above 0 and at most {MAX_FPS:g}.")
    if fps == own or len(frames) == 1:
        return frames
    count = max(1, round(len(frames) / own * fps))
    shown = np.minimum(np.floor((np.arange(count) + 1e-6) / fps * own).astype(int), len(frames) - 1)
    return frames[shown]
