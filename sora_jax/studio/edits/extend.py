"""Clips that go on: past their end, back before their start, over to another clip, round in a loop.

Known frames have noise level 0 and the new ones go on from them, a window of a few seconds after another.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Literal, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import fitted, frames_of, going_on, gray, make, opened
from sora_jax.studio.image import Picture, pixels_of
from sora_jax.studio.sources import Source, names_file
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["connect", "extend", "loop"]

Direction = Literal["forward", "backward", "both"]


def extend(
    pipeline: "Pipeline",
    clip: Source,
    prompt: str,
    *,
    seconds: float,
    direction: Direction = "forward",
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """The clip with `seconds` more after its end, before its start, or as much on both sides.

    Its own frames stay, as `timeline.fill` keeps them. Raises ValueError for what can't be, saying what can.
    """
    if direction not in ("forward", "backward", "both"):
        raise ValueError(f"direction is {direction!r}: choose forward, backward or both.")
    [frames], fps = opened(pipeline, [clip], size, fps)
    new = frames_of(seconds, fps)
    before, after = new * (direction != "forward"), new * (direction != "backward")
    whole = np.concatenate([gray(before, frames), frames, gray(after, frames)])
    at = np.arange(len(whole))
    known = (at >= before) & (at < before + len(frames))
    about = {"direction": direction, "added_seconds": new / fps}
    return make(pipeline, "extend", whole, known, fps, [prompt], going_on(pipeline, settings), about=about)


def connect(
    pipeline: "Pipeline",
    first: Source | Picture,
    second: Source | Picture,
    prompt: str,
    *,
    seconds: float,
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """The first clip, a transition of `seconds`, the second clip; either may be an image.

    An image at the end is held for as many frames as share a latent. Raises ValueError for what can't be.
    """
    factor = pipeline.config.vae.temporal_factor
    clips = [_clip(one, pipeline.config.defaults.fps) for one in (first, second)]
    ends, rate = opened(pipeline, clips, size, fps)
    tail = np.repeat(ends[1], factor, axis=0) if len(ends[1]) == 1 else ends[1]
    # Whole latents between, so that both ends are seen to their last frame.
    new = max(1, round(frames_of(seconds, rate) / factor)) * factor
    whole = np.concatenate([ends[0], gray(new, ends[0]), tail])
    at = np.arange(len(whole))
    known = (at < len(ends[0])) | (at >= len(ends[0]) + new)
    about = {"from_second": len(ends[0]) / rate, "added_seconds": new / rate}
    return make(pipeline, "connect", whole, known, rate, [prompt], going_on(pipeline, settings), about=about)


def _clip(source: Source | Picture, fps: float) -> Source:
    """A clip or a file as it is; an image as a clip of one frame."""
    if isinstance(source, Clip | str | Path):
        return source
    return Clip.from_uint8(pixels_of(source)[None], fps)


def loop(
    pipeline: "Pipeline",
    source: Source,
    prompt: str | None = None,
    *,
    seconds: float | None = None,
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """A clip that goes on from its last frame to its first.

    source: a clip or the path of one (a string that names a file, or ends like one), with the prompt that it was made
    from unless another is given; or a prompt, of which a clip is made first. The clip's end is led back to its start in
    `seconds` (half the model's length unless given), by which it gets longer.
    """
    config = pipeline.config
    factor, defaults = config.vae.temporal_factor, config.defaults
    if prompt is None and isinstance(source, str) and not names_file(source):
        prompt = source
        source = pipeline.generate(source, size=size, fps=fps, **settings)
    [clip] = fitted(pipeline, [source], size, fps)
    if prompt is None and not isinstance(prompt := clip.metadata.get("prompt"), str):
        raise ValueError("the clip doesn't say what it shows: give a prompt.")
    frames, fps = clip.frames, clip.fps
    asked = (defaults.frames - 1) / 2 / fps if seconds is None else seconds
    new = max(1, round(frames_of(asked, fps) / factor)) * factor
    ahead = frames[: min(len(frames), 2 * factor)]
    whole = np.concatenate([frames, gray(new, frames), ahead])
    at = np.arange(len(whole))
    known = (at < len(frames)) | (at >= len(frames) + new)
    about = {"added_seconds": new / fps}
    made = make(pipeline, "loop", whole, known, fps, [prompt], going_on(pipeline, settings), about=about)
    # Its first frames as what was made leads over to them.
    start, end = np.split(made.frames, [len(frames) + new])
    return Clip(np.concatenate([end, start[len(end) :]]), fps, made.metadata)
