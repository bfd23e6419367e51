"""What an edit costs: its time against that of a generation of the same length and of encoding what it was given."""

import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sora_jax.evals.bench.record import Measure
from sora_jax.evals.bench.timing import Effort, interleaved, measured
from sora_jax.media import Clip
from sora_jax.studio.edits import Card
from sora_jax.studio.pipeline import Pipeline

__all__ = ["EDITS", "measure"]


def _inpaint(pipeline: Pipeline, clip: Clip, words: str, **settings: Any) -> Clip:
    rows, columns = clip.frames.shape[1:3]
    right = np.broadcast_to(np.arange(columns) >= columns // 2, (rows, columns))
    return pipeline.inpaint(clip, words, mask=right, **settings)


def _recut(pipeline: Pipeline, clip: Clip, words: str, **settings: Any) -> Clip:
    half = clip.seconds / 2
    moments = [(0.0, half, 0.25 * half), (half, clip.seconds, 1.5 * half)]
    return pipeline.recut(clip, moments, words, seconds=3 * half, **settings)


def _storyboard(pipeline: Pipeline, clip: Clip, words: str, **settings: Any) -> Clip:
    cards = [Card(at=shot * clip.seconds, prompt=words, cut=shot > 0) for shot in range(2)]
    return pipeline.storyboard(cards, seconds=2 * clip.seconds, **settings)


def _stream(pipeline: Pipeline, clip: Clip, words: str, **settings: Any) -> Clip:
    chunks = pipeline.stream(words, seconds=clip.seconds, **settings)
    return Clip(np.concatenate([chunk.frames for chunk in chunks]), clip.fps)


EDITS: dict[str, tuple[int, Callable[..., Clip]]] = {
    "animate": (1, Pipeline.animate),
    "extend": (1, lambda p, clip, words, **to: p.extend(clip, words, seconds=clip.seconds / 2, **to)),
    "connect": (2, lambda p, clip, words, **to: p.connect(clip, clip, words, seconds=clip.seconds / 2, **to)),
    "loop": (1, Pipeline.loop),
    "blend": (2, lambda p, clip, words, **to: p.blend(clip, clip, **to)),
    "remix": (1, Pipeline.remix),
    "recut": (1, _recut),
    "inpaint": (1, _inpaint),
    "storyboard": (0, _storyboard),
    "stream": (0, _stream),
}
"""How many clips each is given, and its call with (pipeline, clip, prompt, settings)."""


def measure(
    pipeline: Pipeline, words: str, *, steps: int | None, names: Sequence[str], effort: Effort
) -> Iterator[Measure]:
    """The edits of these names on clips of the model's own length, and what they are measured against."""
    defaults, factor = pipeline.config.defaults, pipeline.config.vae.temporal_factor
    settings = {"steps": steps, "progress": False}
    shape = defaults.frames, defaults.height, defaults.width, 3
    noise = np.random.default_rng(0).standard_normal(shape, np.float32)
    clip = Clip(np.tanh(noise), defaults.fps, {"prompt": words})
    for name in names:
        given, edit = EDITS[name]
        run = functools.partial(edit, pipeline, clip, words, **settings)
        made = len(run())
        whole = 1 + factor * -(-(made - 1) // factor)
        clips = np.repeat(clip.frames[None], given, axis=0)
        runs = {
            "edit": run,
            "generation": functools.partial(pipeline.generate, words, frames=whole, **settings),
            **({"encoding": functools.partial(pipeline.encode, clips)} if given else {}),
        }
        times = interleaved(runs, effort)
        against = sum(times[part].median for part in runs if part != "edit")
        told: dict[str, dict[str, Any]] = {
            "edit": {"frames": made, "times_a_generation": times["edit"].median / against},
            "generation": {"frames": whole},
        }
        for part, taken in times.items():
            yield measured(name, part, seconds=taken, figures=told.get(part))
