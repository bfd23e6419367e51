"""Pictures that start to move: images at given times are known frames, and the rest is made around them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import check_room, frame_of, make, to_frames
from sora_jax.studio.image import Picture, aspect_of, pixels_of
from sora_jax.studio.size import resolve_size
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["animate"]


def animate(
    pipeline: "Pipeline",
    image: Picture | None,
    prompt: str,
    *,
    last_image: Picture | None = None,
    keyframes: Mapping[float, Picture] | None = None,
    seconds: float | None = None,
    frames: int | None = None,
    fps: float | None = None,
    size: str | tuple[int, int] | None = None,
    aspect: str | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """A clip in which the image moves: it is the first frame, `last_image` the last, `keyframes` {second: image} more.

    Without size and aspect the clip has the first image's shape. An image that isn't the first frame is held for the
    frames that share its latent. Raises ValueError where no image is given, and for times outside the clip or of one
    latent.
    """
    config = pipeline.config
    given: dict[float, Picture] = dict(keyframes or {})
    if config.needs_image and not given:
        options: dict[str, Any] = {
            "seconds": seconds,
            "frames": frames,
            "fps": fps,
            "size": size,
            "aspect": aspect,
        }
        return pipeline.generate(prompt, image=image, last_image=last_image, **options, **settings)
    shown = [one for one in (image, *given.values(), last_image) if one is not None]
    if not shown:
        raise ValueError("there is no image to animate: give the first, the last or keyframes.")
    if size is None and aspect is None:
        aspect = aspect_of(pixels_of(shown[0]))
    clip = resolve_size(config, seconds=seconds, frames=frames, fps=fps, size=size, aspect=aspect)
    check_room(pipeline, (clip.height, clip.width))
    at = [(to_frames(second, clip.fps), picture) for second, picture in given.items()]
    if image is not None:
        at.append((0, image))
    if last_image is not None:
        at.append((clip.frames - 1, last_image))
    if outside := [place for place, _ in at if not 0 <= place < clip.frames]:
        raise ValueError(
            f"a keyframe at {outside[0] / clip.fps:g} s lies outside the clip, which ends at "
            f"{(clip.frames - 1) / clip.fps:g} s: move it, or ask for a longer clip."
        )
    factor = config.vae.temporal_factor
    pixels = np.zeros((clip.frames, clip.height, clip.width, 3), np.float32)
    known = np.zeros(clip.frames, bool)
    at.sort(key=lambda one: one[0])
    firsts = [(place - 1) // factor * factor + 1 if place else 0 for place, _ in at]
    for k in range(1, len(at)):
        if firsts[k] == firsts[k - 1]:
            raise ValueError(
                f"the images at {at[k - 1][0] / clip.fps:g} and {at[k][0] / clip.fps:g} s share a latent, which shows "
                f"one: move one of them by {factor / clip.fps:g} s, or leave it out."
            )
    for first, (place, picture) in zip(firsts, at, strict=True):
        held = slice(first, first + factor if place else 1)
        pixels[held] = frame_of(picture, (clip.height, clip.width))
        known[held] = True
    if known.all():
        raise ValueError(f"{clip.frames} frames leave none to make between the images: ask for more of them.")
    times = [place / clip.fps for place, _ in at]
    return make(pipeline, "animate", pixels, known, clip.fps, [prompt], settings, about={"images_at": times})
