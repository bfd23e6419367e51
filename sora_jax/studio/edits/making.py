"""What every edit does around its timeline: words checked, clips fitted to one size and rate, the result described."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from sora_jax.media import Clip, from_uint8
from sora_jax.studio.given import check_edit
from sora_jax.studio.image import Picture, pixels_of
from sora_jax.studio.memory import check_memory, held_bytes
from sora_jax.studio.prompts import check_words
from sora_jax.studio.request import resolve
from sora_jax.studio.size import MAX_FRAMES
from sora_jax.studio.sources import Opened, Source, fit_frames, open_clip, sides_of
from sora_jax.studio.timeline import Settings, Timeline, fill, frames_at_once

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = [
    "Plan",
    "check_room",
    "finish",
    "fitted",
    "frame_of",
    "frames_of",
    "going_on",
    "gray",
    "make",
    "opened",
    "prepare",
    "sides_for",
    "to_frames",
]


def fitted(
    pipeline: "Pipeline",
    sources: Sequence[Source],
    size: str | tuple[int, int] | None,
    fps: float | None,
) -> list[Opened]:
    """The clips at one size and rate: the first one's unless given; a picture takes the rate of the clips."""
    first = open_clip(pipeline.config, sources[0], sides_for(pipeline, size), fps)
    sides = first.frames.shape[1:3]
    clips = [first, *(open_clip(pipeline.config, one, lambda *_: sides, fps) for one in sources[1:])]
    rate = next((one.fps for one in clips if len(one.frames) > 1), first.fps) if fps is None else fps
    return [one.at(rate) for one in clips]


def sides_for(
    pipeline: "Pipeline", size: str | tuple[int, int] | None
) -> Callable[[int, int], tuple[int, int]]:
    """What gives the (height, width) of an edit of a clip for the clip's own, as far as the device holds it."""

    def sides(height: int, width: int) -> tuple[int, int]:
        found = sides_of(pipeline.config, height, width, size)
        check_room(pipeline, found)
        return found

    return sides


def check_room(pipeline: "Pipeline", sides: tuple[int, int]) -> None:
    """Raises ValueError for a (height, width) of which the device can't hold even one frame, before any is made."""
    request = resolve(pipeline.config, [""], size=sides, frames=1, guidance=1.0)
    check_memory(pipeline.config, request, held_bytes(pipeline.params), pipeline.fused())


def opened(
    pipeline: "Pipeline",
    sources: Sequence[Source],
    size: str | tuple[int, int] | None,
    fps: float | None,
) -> tuple[list[np.ndarray], float]:
    """The frames of `fitted` clips, each [n, h, w, 3], and their rate."""
    clips = fitted(pipeline, sources, size, fps)
    return [one.frames for one in clips], clips[0].fps


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
    """The frame that is shown at this moment, counted from 0. Raises ValueError for what is no moment."""
    if not math.isfinite(seconds * fps):
        raise ValueError(f"{seconds:g} is no moment of a clip: give seconds as a finite number.")
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """An edit that is checked and not made yet."""

    timeline: Timeline
    settings: Settings
    about: dict[str, Any]
    """What the clip's metadata says."""


def prepare(
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
) -> Plan:
    """The plan of a timeline of frames [n, h, w, 3]. Raises ValueError for what can't be made."""
    config = pipeline.config
    if len(frames) > MAX_FRAMES:
        raise ValueError(f"the clip would have {len(frames)} frames: at most {MAX_FRAMES} can be.")
    check_edit(config, known)
    prompts = [check_words(prompt, pipeline.tokenizer, pipeline.world) for prompt in prompts]
    timeline = Timeline(
        frames=frames[None],
        known=known,
        fps=fps,
        scripts=tuple((prompt,) for prompt in prompts),
        shares=shares,
        strength=strength,
    )
    options: dict[str, Any] = {name: value for name, value in settings.items() if name != "progress"}
    factor = config.vae.temporal_factor * config.dit.patch[0]
    window = min(frames_at_once(config, len(frames)), 1 + factor * -(-(len(frames) - 1) // factor))
    request = resolve(config, prompts[:1], frames=window, fps=fps, size=frames.shape[1:3], **options)
    check_memory(config, request, held_bytes(pipeline.params), pipeline.fused())
    said: dict[str, Any] = {"operation": operation, **request.choices(0)}
    said["prompt"] = prompts[0] if len(prompts) == 1 else prompts
    return Plan(timeline=timeline, settings=settings, about={**said, **(about or {}), **pipeline.about()})


def finish(pipeline: "Pipeline", plan: Plan) -> Clip:
    """The clip of a plan, described by how it was made."""
    return Clip(fill(pipeline, plan.timeline, plan.settings)[0], plan.timeline.fps, plan.about)


def make(
    pipeline: "Pipeline",
    operation: str,
    frames: np.ndarray,
    known: np.ndarray,
    fps: float,
    prompts: Sequence[str],
    settings: Settings,
    **options: Any,
) -> Clip:
    """The clip of a timeline of frames [n, h, w, 3]; as `prepare` takes it."""
    return finish(pipeline, prepare(pipeline, operation, frames, known, fps, prompts, settings, **options))
