"""A part of a clip made anew: inside a mask, for a span of time, or around its frame."""

import math
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.models.config import ModelConfig
from sora_jax.studio.edits.making import check_room, make, sides_for, to_frames
from sora_jax.studio.image import Picture, pixels_of
from sora_jax.studio.size import parse_aspect, parse_size, resolve_size, token_sides
from sora_jax.studio.sources import Source, fit_mask, keeps_size, open_clip
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["frame_around", "inpaint", "outpaint"]


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
        mask: bool [h, w] or [n, h, w], true where something new comes, or a picture that is white there, of the clip's
            own size or the new one's; the whole frame unless given.
        span: (start, end) in seconds; the whole clip unless given.

    Raises ValueError for a mask of another size, or with nothing inside, and a span outside the clip.
    """
    if mask is None and span is None:
        raise ValueError("nothing is to be made anew: give a mask, a span of time, or both.")
    source = open_clip(pipeline.config, clip, sides_for(pipeline, size), fps)
    frames, fps = source.frames, source.fps
    unknown = np.ones(frames.shape[:3], bool) if mask is None else _mask(mask, frames, source.own)
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


def _mask(mask: np.ndarray | Picture, frames: np.ndarray, own: tuple[int, int]) -> np.ndarray:
    """True where something new comes, [n, h, w]; a mask of the clip's own size is fitted as its frames were."""
    marked = isinstance(mask, np.ndarray) and mask.dtype == np.bool_
    if isinstance(mask, np.ndarray) and not marked and (mask.ndim != 3 or mask.shape[-1] != 3):
        raise ValueError(
            f"the mask is {mask.dtype}{list(mask.shape)}: give booleans [h, w] or [n, h, w], as in mask > 127, or a "
            "picture [h, w, 3] that is white where something new comes."
        )
    inside: Any = mask if marked else pixels_of(mask).mean(axis=-1) > 127
    n, sides = len(frames), frames.shape[1:3]
    if (
        inside.ndim not in (2, 3)
        or inside.shape[-2:] not in (own, sides)
        or inside.shape[:-2] not in ((), (n,))
    ):
        raise ValueError(
            f"the mask is {list(inside.shape)} and the clip's frames are {list(own)}: "
            f"make it of that size, or {[n, *own]} for a mask of each frame."
        )
    inside = inside if inside.shape[-2:] == sides else fit_mask(inside, sides)
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

    Its frame is `size`, into which a larger clip is scaled down; or has the `aspect`, and the clip as it is inside, but
    for one of far more or fewer pixels than the model makes, which is scaled to about as many. Raises ValueError for a
    frame that leaves no room.
    """
    outer: tuple[int, int] = (0, 0)

    def inside(height: int, width: int) -> tuple[int, int]:
        nonlocal outer
        inner, outer = frame_around(pipeline.config, height, width, size, aspect)
        check_room(pipeline, outer)
        return inner

    source = open_clip(pipeline.config, clip, inside, fps)
    inner, (height, width) = source.frames, outer
    top, left = (height - inner.shape[1]) // 2, (width - inner.shape[2]) // 2
    if not top and not left:
        raise ValueError(
            f"a frame of {width}x{height} leaves no room around the clip's: choose another size or aspect."
        )
    place = (slice(None), slice(top, top + inner.shape[1]), slice(left, left + inner.shape[2]))
    whole = np.zeros((len(inner), height, width, 3), np.float32)
    known = np.zeros(whole.shape[:3], bool)
    whole[place], known[place] = inner, True
    return make(pipeline, "outpaint", whole, known, source.fps, [prompt], settings)


def frame_around(
    config: ModelConfig, height: int, width: int, size: str | tuple[int, int] | None, aspect: str | None
) -> tuple[tuple[int, int], tuple[int, int]]:
    """(height, width) of the clip, which has this one by itself, and of the frame around it."""
    if size is not None or aspect is None:
        asked = resolve_size(config, size=None if size is None else parse_size(size), aspect=aspect)
        scale = min(1.0, asked.height / height, asked.width / width)
        return (round(height * scale), round(width * scale)), (asked.height, asked.width)
    if not keeps_size(config, height, width):
        scale = math.sqrt(config.defaults.height * config.defaults.width / (height * width))
        height, width = round(height * scale), round(width * scale)
    ratio, (along, across) = parse_aspect(aspect), token_sides(config)
    rows, columns = -(-height // along), -(-width // across)
    if columns * across < rows * along * ratio:
        columns = max(columns, round(rows * along * ratio / across))
    else:
        rows = max(rows, round(columns * across / ratio / along))
    outer = resolve_size(config, size=(rows * along, columns * across))
    return (height, width), (outer.height, outer.width)
