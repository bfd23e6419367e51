"""A part of a clip made anew: inside a mask, for a span of time, or around its frame."""

from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import make, opened, to_frames
from sora_jax.studio.image import Picture, pixels_of
from sora_jax.studio.size import parse_size, resolve_size
from sora_jax.studio.sources import Source, at_rate, fit_frames, open_clip
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["inpaint", "outpaint"]


def inpaint(
    pipeline: "Pipeline",
    clip: Source,
    prompt: str,
    *,
    mask: np.ndarray | Picture | None = None,
    span: tuple[float, float] | None = None,
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """The clip with what is inside the mask, and within the span, made anew to the prompt.

    Args:
        mask: bool [h, w] or [n, h, w], true where something new comes, or a picture that is white there; the whole
            frame unless given.
        span: (start, end) in seconds; the whole clip unless given.

    Raises ValueError for a mask of another size, or with nothing inside, and a span outside the clip.
    """
    if mask is None and span is None:
        raise ValueError("nothing is to be made anew: give a mask, a span of time, or both.")
    [frames], fps = opened(pipeline, [clip], size, fps)
    unknown = np.ones(frames.shape[:3], bool) if mask is None else _mask(mask, frames)
    if span is not None:
        start, end = (to_frames(second, fps) for second in span)
        if not 0 <= start < end <= len(frames):
            raise ValueError(
                f"the span from {span[0]:g} to {span[1]:g} s doesn't lie in the clip, which lasts "
                f"{len(frames) / fps:g} s: choose a start before its end, both within."
            )
        unknown[:start] = unknown[end:] = False
    if not unknown.any():
        raise ValueError("the mask has nothing inside: mark what is to be made anew.")
    known = ~unknown if mask is not None else ~unknown[:, 0, 0]
    about = {"span": list(span)} if span else {}
    return make(pipeline, "inpaint", frames, known, fps, [prompt], settings, about=about)


def _mask(mask: np.ndarray | Picture, frames: np.ndarray) -> np.ndarray:
    """True where something new comes, [n, h, w]."""
    marked = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
    inside: Any = mask if marked else pixels_of(mask).mean(axis=-1) > 127
    if inside.shape not in (frames.shape[:3], frames.shape[1:3]):
        raise ValueError(
            f"the mask is {list(inside.shape)} and the clip's frames are {list(frames.shape[1:3])}: "
            f"make it of that size, or {list(frames.shape[:3])} for a mask of each frame."
        )
    return np.broadcast_to(inside, frames.shape[:3]).copy()


def outpaint(
    pipeline: "Pipeline",
    clip: Source,
    prompt: str,
    *,
    size: str | tuple[int, int] | None = None,
    aspect: str | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """The clip in the middle of a larger frame, of which the rest is made to the prompt.

    Its frame is `size`, or has the `aspect` and the clip's area or more. Raises ValueError for one that leaves no room.
    """
    source = open_clip(clip)
    fps = fps or source.fps
    outer = resolve_size(pipeline.config, size=None if size is None else parse_size(size), aspect=aspect)
    frames, (height, width) = at_rate(source, fps), source.frames.shape[1:3]
    scale = min(1.0, outer.height / height, outer.width / width)
    inner = fit_frames(frames, (round(height * scale), round(width * scale)))
    top, left = (outer.height - inner.shape[1]) // 2, (outer.width - inner.shape[2]) // 2
    if not top and not left:
        raise ValueError(
            f"a frame of {outer.width}x{outer.height} leaves no room around the clip's: choose another size or aspect."
        )
    place = (slice(None), slice(top, top + inner.shape[1]), slice(left, left + inner.shape[2]))
    whole = np.zeros((len(inner), outer.height, outer.width, 3), np.float32)
    known = np.zeros(whole.shape[:3], bool)
    whole[place], known[place] = inner, True
    return make(pipeline, "outpaint", whole, known, fps, [prompt], settings)
