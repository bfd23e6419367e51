"""What every edit does around its timeline: words checked, clips fitted to one size and rate, the result described."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sora_jax.media import Clip, from_uint8
from sora_jax.studio.image import Picture, pixels_of
from sora_jax.studio.prompts import check_words
from sora_jax.studio.size import MAX_FRAMES
from sora_jax.studio.sources import Source, at_rate, fit_frames, open_clip, sides_of
from sora_jax.studio.timeline import Settings, Timeline, fill

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["frame_of", "frames_of", "going_on", "gray", "make", "opened", "to_frames"]


def opened(
    pipeline: "Pipeline",
    sources: Sequence[Source],
    size: str | tuple[int, int] | None,
    fps: float | None,
) -> tuple[list[np.ndarray], float]:
    """The clips' frames, each [n, h, w, 3], at the size and rate of the first unless others are given."""
    clips = [open_clip(source) for source in sources]
    fps = fps or clips[0].fps
    sides = sides_of(pipeline.config, clips[0], size)
    return [fit_frames(at_rate(clip, fps), sides) for clip in clips], fps


def frame_of(picture: Picture, sides: tuple[int, int]) -> np.ndarray:
    """The picture as one frame [1, h, w, 3] in [-1, 1]."""
    return fit_frames(from_uint8(pixels_of(picture)[None]), sides)


def frames_of(seconds: float, fps: float, name: str = "seconds") -> int:
    """How many frames last so long. Raises ValueError for less than one, and for more than a clip may have."""
    count = round(seconds * fps) if np.isfinite(seconds) else -1
    if not 1 <= count <= MAX_FRAMES:
        raise ValueError(
            f"{name} is {seconds:g}, {max(count, 0)} frames at {fps:g} frames a second: it must be from "
            f"{1 / fps:g} to {MAX_FRAMES / fps:g}."
        )
    return count


def to_frames(seconds: float, fps: float) -> int:
    """The frame that is shown at this moment, counted from 0."""
    return round(seconds * fps)


def gray(count: int, like: np.ndarray) -> np.ndarray:
    """So many frames of the size of `like`, of which nothing is known."""
    return np.zeros((count, *like.shape[1:]), np.float32)


def going_on(pipeline: "Pipeline", settings: Settings) -> Settings:
    """The settings of an edit whose known frames show how things move, unless others are given.

    Guidance is half the model's, and towards those frames as well as towards the words.
    """
    defaults = pipeline.config.defaults
    own: dict[str, Any] = {"history": 1.0}
    if settings.get("guidance") is None and settings.get("guidance_2") is None:
        own["guidance"] = max(1.0, defaults.guidance / 2)
        if defaults.guidance_2 is not None:
            own["guidance_2"] = max(1.0, defaults.guidance_2 / 2)
    own |= {name: value for name, value in settings.items() if value is not None}
    return Settings(**own)


def make(
    pipeline: "Pipeline",
    operation: str,
    frames: np.ndarray,
    known: np.ndarray,
    fps: float,
    prompts: Sequence[str],
    settings: Settings,
    *,
    shares: np.ndarray | None = None,
    strength: np.ndarray | None = None,
    about: dict[str, Any] | None = None,
) -> Clip:
    """The clip of a timeline of frames [n, h, w, 3], described by how it was made."""
    if len(frames) > MAX_FRAMES:
        raise ValueError(f"the clip would have {len(frames)} frames: at most {MAX_FRAMES} can be.")
    prompts = [check_words(prompt, pipeline.tokenizer, pipeline.world) for prompt in prompts]
    timeline = Timeline(
        frames=frames[None],
        known=known,
        fps=fps,
        scripts=tuple((prompt,) for prompt in prompts),
        shares=shares,
        strength=strength,
    )
    made = fill(pipeline, timeline, settings)[0]
    said = {name: value for name, value in settings.items() if name != "progress" and value is not None}
    words = prompts[0] if len(prompts) == 1 else prompts
    return Clip(
        made,
        fps,
        {"operation": operation, "prompt": words, "seed": 0, **said, **(about or {}), **pipeline.about()},
    )
