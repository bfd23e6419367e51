"""The best moments of a clip on a new timeline: they stay, and what lies before, between and after is made anew."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import frames_of, going_on, gray, make, opened, to_frames
from sora_jax.studio.sources import Source
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["recut"]

Moment = tuple[float, float] | tuple[float, float, float]


def recut(
    pipeline: "Pipeline",
    clip: Source,
    keep: Sequence[Moment],
    prompt: str,
    *,
    seconds: float | None = None,
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """A clip of `seconds` (the old one's unless given) that keeps moments of the old one.

    keep: (start, end) in seconds of the clip, or (start, end, at) to begin at another second of the new one.

    Raises ValueError for moments outside the clip, that overlap, or that leave nothing to make.
    """
    [frames], fps = opened(pipeline, [clip], size, fps)
    count = len(frames) if seconds is None else frames_of(seconds, fps)
    if not keep:
        raise ValueError(
            "there is nothing to keep: name moments as (start, end) in seconds, or use generate."
        )
    whole, known = gray(count, frames), np.zeros(count, bool)
    for moment in keep:
        start, end = (to_frames(second, fps) for second in moment[:2])
        if not 0 <= start < end <= len(frames):
            raise ValueError(
                f"the moment from {moment[0]:g} to {moment[1]:g} s doesn't lie in the clip, which lasts "
                f"{len(frames) / fps:g} s: choose a start before its end, both within."
            )
        at = to_frames(moment[2] if len(moment) == 3 else moment[0], fps)
        if at < 0 or at + end - start > count:
            raise ValueError(
                f"the moment from {moment[0]:g} to {moment[1]:g} s would lie at {at / fps:g} s and the new clip "
                f"lasts {count / fps:g} s: place it within, or ask for more seconds."
            )
        place = slice(at, at + end - start)
        if known[place].any():
            raise ValueError(f"two moments overlap at {at / fps:g} s of the new clip: place them apart.")
        whole[place], known[place] = frames[start:end], True
    if known.all():
        raise ValueError(
            "the moments fill the new clip and leave nothing to make: keep less, or ask for more seconds."
        )
    about = {"keep": [list(moment) for moment in keep]}
    return make(pipeline, "recut", whole, known, fps, [prompt], going_on(pipeline, settings), about=about)
