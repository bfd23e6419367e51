"""Frames as soon as they are ready, without an end, led by words that may change on the way.

Levels rise along time within a window (diffusion forcing, arXiv 2407.01392), so that its frames are finished one after
another; the next window goes on from the last of them.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Unpack

import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion import SAMPLERS, staggered
from sora_jax.media import Clip
from sora_jax.studio.edits.making import check_room, to_frames
from sora_jax.studio.given import Given, check_known
from sora_jax.studio.prompts import check_words
from sora_jax.studio.request import Request, resolve, seeds_of
from sora_jax.studio.size import ClipSize, resolve_size
from sora_jax.studio.timeline import Settings, window_seeds
from sora_jax.studio.windows import context_frames

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["stream"]

Words = str | Sequence[str] | Callable[[], str]


def stream(
    pipeline: "Pipeline",
    prompt: Words,
    *,
    seconds: float | None = None,
    delay: int = 2,
    size: str | tuple[int, int] | None = None,
    aspect: str | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Iterator[Clip]:
    """Clips of a few frames that follow one another, as they are made.

    Args:
        prompt: what to show; several are shown a window each, the last from then on; a function is asked before every
            step, so that its answer steers what isn't finished.
        seconds: when to end, with a window for each prompt by then; never unless given.
        delay: steps that each latent frame runs behind the one before it; 0 finishes a window at once.

    Raises ValueError for what can't be, saying what can.
    """
    config = pipeline.config
    check_known(config)
    if not 0 <= delay <= 100:
        raise ValueError(f"delay is {delay} and must be from 0 to 100 steps.")
    clip = resolve_size(config, size=size, aspect=aspect, fps=fps)
    options: dict[str, Any] = {k: v for k, v in settings.items() if k != "progress"}
    seeds = list(seeds_of(options.pop("seed", 0), 1))
    check_room(pipeline, (clip.height, clip.width))
    factor = config.vae.temporal_factor
    context = context_frames(clip.frames, factor)
    left = None
    if seconds is not None:
        left = to_frames(seconds, clip.fps)
        _check_length(prompt, left, clip, context)
    shown = np.zeros((0, clip.height, clip.width, 3), np.float32)
    window = 0
    while left is None or left > 0:
        words = _words(prompt, window)
        text = check_words(words(), pipeline.tokenizer, pipeline.world)
        request = resolve(
            config,
            [text],
            seed=window_seeds(seeds, window),
            frames=clip.frames,
            fps=clip.fps,
            size=(clip.height, clip.width),
            **options,
        )
        for frames in _window(pipeline, request, shown[-context:], words, delay, factor):
            frames = frames[:left]
            shown = np.concatenate([shown[-context:], frames])
            left = None if left is None else left - len(frames)
            if len(frames):
                about = {"operation": "stream", "prompt": words(), "seed": seeds[0], **pipeline.about()}
                yield Clip(frames, clip.fps, about)
        window += 1


def _check_length(prompt: Words, frames: int, clip: ClipSize, context: int) -> None:
    """Raises ValueError for less than a frame, and for more prompts than so many frames have windows."""
    if frames < 1:
        raise ValueError(
            f"seconds is {frames / clip.fps:g} and must be at least {1 / clip.fps:g}, one frame: leave it out for a "
            "stream without an end."
        )
    new = clip.frames - context
    windows = 1 + max(0, -(-(frames - clip.frames) // new))
    if not (callable(prompt) or isinstance(prompt, str)) and len(prompt) > windows:
        least = (clip.frames + (len(prompt) - 2) * new + 1) / clip.fps
        raise ValueError(
            f"{len(prompt)} prompts have a window each, and {frames / clip.fps:g} s have {windows}: give fewer, or at "
            f"least {least:g} s."
        )


def _words(prompt: Words, window: int) -> Callable[[], str]:
    if callable(prompt):
        return prompt
    if isinstance(prompt, str):
        return lambda: prompt
    if not prompt:
        raise ValueError("there are no prompts: give at least one.")
    return lambda: prompt[min(window, len(prompt) - 1)]


def _window(
    pipeline: "Pipeline",
    request: Request,
    before: np.ndarray,
    words: Callable[[], str],
    delay: int,
    factor: int,
) -> Iterator[np.ndarray]:
    """Frames of one window, after the known ones `before`, as their latents are finished."""
    config, size = pipeline.config, request.size
    t = config.vae.latent_shape(size.frames, size.height, size.width)[0]
    known = 0 if not len(before) else 1 + (len(before) - 1) // factor
    sigmas = SAMPLERS[request.sampler].schedule(request.steps, config.flow_shift)
    late = staggered(np.asarray(sigmas, np.float32), t - known, delay)
    levels = np.concatenate([np.zeros((len(late), known), np.float32), late], axis=1)
    given = Given(levels=levels)
    if known:
        held = np.repeat(before[-1:], size.frames - len(before), axis=0)
        latents = pipeline.encode(np.concatenate([before, held]))[None]
        given = Given(levels=levels, latents=latents, unknown=np.arange(t)[None] >= known)
    going, done, told = pipeline.begin(request, given), known, request.prompts[0]
    while going.step < going.steps:
        if (now := words()) != told:
            going, told = pipeline.change(going, prompt=now), now
        going = pipeline.advance(going)
        ready = int((levels[going.step] == 0).argmin()) if (levels[going.step] > 0).any() else t
        if ready > done:
            pixels = pipeline.decode_batch(jnp.asarray(going.latents))[0]
            first, last = _frames(done, factor), _frames(ready, factor)
            yield pixels[first:last]
            done = ready


def _frames(latents: int, factor: int) -> int:
    """Frames of so many latents."""
    return 1 + (latents - 1) * factor if latents else 0
