"""A clip: frames, the rate they are shown at, and how they were made."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["Clip", "from_uint8", "to_uint8"]


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Pixels in [-1, 1] as uint8 in [0, 255], rounded; what lies outside is clipped. Any shape."""
    scaled = np.clip(np.asarray(frames, np.float32), -1.0, 1.0) * 127.5 + 127.5
    return np.rint(scaled).astype(np.uint8)


def from_uint8(frames: np.ndarray) -> np.ndarray:
    """uint8 pixels in [0, 255] as float32 in [-1, 1]; `to_uint8` gives the same bytes back. Any shape."""
    frames = np.asarray(frames)
    if frames.dtype != np.uint8:
        raise ValueError(f"pixels are {frames.dtype}, but from_uint8 needs uint8: convert them first")
    return frames.astype(np.float32) / 127.5 - 1.0


@dataclass(frozen=True, eq=False)
class Clip:
    """A video, or an image where there is one frame.

    frames: float32 [t, h, w, 3], red green blue, in [-1, 1] (what lies outside is clipped when written).
    fps: frames per second, above 0.
    metadata: how the clip was made (prompt, seed, settings); anything that JSON can hold.

    Raises ValueError for another shape, no frames, a pixel that is not a number, or a rate not above 0.
    """

    frames: np.ndarray
    fps: float
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        frames = np.asarray(self.frames)
        if frames.ndim != 4 or frames.shape[-1] != 3 or 0 in frames.shape:
            raise ValueError(
                f"frames have shape {frames.shape}, but a clip is [t, h, w, 3] with none of them 0"
            )
        if not np.issubdtype(frames.dtype, np.floating) and frames.dtype.name != "bfloat16":
            raise ValueError(
                f"frames are {frames.dtype}, but a clip holds floats in [-1, 1]: use Clip.from_uint8"
            )
        frames = np.ascontiguousarray(frames, np.float32)
        if not np.isfinite(frames).all():
            raise ValueError("frames hold pixels that are not finite numbers")
        fps = float(self.fps)
        if not (math.isfinite(fps) and fps > 0):
            raise ValueError(f"a frame rate of {self.fps} cannot be shown: give a number above 0")
        object.__setattr__(self, "frames", frames)
        object.__setattr__(self, "fps", fps)
        object.__setattr__(self, "metadata", dict(self.metadata))

    @classmethod
    def from_uint8(cls, frames: np.ndarray, fps: float, metadata: dict[str, Any] | None = None) -> "Clip":
        """A clip from uint8 [t, h, w, 3]."""
        return cls(from_uint8(frames), fps, metadata or {})

    def to_uint8(self) -> np.ndarray:
        """The frames as uint8 [t, h, w, 3]."""
        return to_uint8(self.frames)

    @property
    def seconds(self) -> float:
        """How long the clip plays: every frame is shown for 1 / fps."""
        return len(self.frames) / self.fps

    def save(self, path: str | Path) -> Path:
        """Writes mp4, webm, gif, webp or png, by the ending of `path`; see `sora_jax.media.write`."""
        from sora_jax.media.encode import write

        return write(path, self)

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        t, h, w, _ = self.frames.shape
        return f"Clip({t} frames of {w}x{h}, {self.fps:g} fps, {self.seconds:g} s)"


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """10·log10(4 / mean (a - b)²) in dB, of pixels in [-1, 1]; infinite where they are equal."""
    error = float(np.mean(np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64))))
    return float("inf") if error == 0 else 10 * float(np.log10(4 / error))
