"""Clips that people bring: files or values of any size and rate, as frames that fit the model."""

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sora_jax.media import Clip, from_uint8, read, to_uint8
from sora_jax.models.config import ModelConfig
from sora_jax.studio.size import MAX_FPS, parse_size, resolve_size, token_sides

__all__ = ["Source", "at_rate", "fit_frames", "open_clip", "sides_of"]

Source = Clip | str | Path
"""A clip, or a file of one."""

KEEPS = 2.0
"""A clip keeps its own size up to so many times the pixels that the model makes by default."""


def open_clip(source: Source) -> Clip:
    """The clip itself or its file's. Raises ValueError or OSError for a file that isn't one, as `media.read` does."""
    return source if isinstance(source, Clip) else read(source)


def sides_of(config: ModelConfig, clip: Clip, size: str | tuple[int, int] | None = None) -> tuple[int, int]:
    """(height, width) that an edit of the clip has: `size`, or the clip's own, or the model's area in its shape."""
    if size is not None:
        asked = resolve_size(config, size=parse_size(size))
        return asked.height, asked.width
    height, width = clip.frames.shape[1:3]
    along, across = token_sides(config)
    defaults = config.defaults
    if (
        height % along == 0
        and width % across == 0
        and height * width <= KEEPS * defaults.height * defaults.width
    ):
        return height, width
    asked = resolve_size(config, aspect=f"{width}:{height}")
    return asked.height, asked.width


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


def at_rate(clip: Clip, fps: float) -> np.ndarray:
    """Frames [n, h, w, 3] at another rate: each is what the clip shows at that moment."""
    if not 0 < fps <= MAX_FPS:
        raise ValueError(f"fps is {fps:g} and must be above 0 and at most {MAX_FPS:g}.")
    if fps == clip.fps:
        return clip.frames
    count = max(1, round(clip.seconds * fps))
    shown = np.minimum(np.floor((np.arange(count) + 1e-6) / fps * clip.fps).astype(int), len(clip) - 1)
    return clip.frames[shown]
