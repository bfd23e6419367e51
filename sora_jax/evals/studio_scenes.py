"""What the cases of the studio are made of: fresh scenes, their clips and words, and measures of what came of them."""

import dataclasses
from typing import Any

import numpy as np

from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.claims import judge, parse
from sora_jax.data.playground.oracle import Reading, read
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import Scene, draw_scene
from sora_jax.evals.playground import FRESH, SIMPLE
from sora_jax.media import Clip, psnr
from sora_jax.studio.pipeline import Pipeline

__all__ = [
    "ENDLESS",
    "Case",
    "Options",
    "cut",
    "endless_scene",
    "fresh_scene",
    "is_right",
    "kept_db",
    "off_path",
    "read_clip",
    "real_step",
    "shot_of",
    "step_sizes",
    "words_of",
]

Options = dict[str, Any]
"""Those that every edit takes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """What one case showed."""

    clip: Clip
    label: str
    truths: dict[str, bool] = dataclasses.field(default_factory=dict)
    figures: dict[str, float] = dataclasses.field(default_factory=dict)


def kept_db(a: np.ndarray, b: np.ndarray) -> float:
    """PSNR in dB; 99 where they are equal."""
    return min(99.0, psnr(a, b))


def fresh_scene(seed: int, **want: Any) -> Scene:
    return draw_scene(FRESH + seed, **{**SIMPLE, "objects": 1, **want})


def shot_of(pipeline: Pipeline, scene: Scene, frames: int | None = None) -> Clip:
    """The scene as a clip of the model's own size, with its caption."""
    d = pipeline.config.defaults
    pixels = render(scene, height=d.height, width=d.width, frames=frames or d.frames, fps=d.fps)
    return Clip.from_uint8(pixels, d.fps, {"prompt": words_of(scene)})


def words_of(scene: Scene) -> str:
    """A short caption that names colour, shape and motion."""
    for phrasing in range(200):
        text = caption(scene, phrasing, "short")
        claims = parse(text).objects
        if len(claims) == len(scene.objects) and all(o.color and o.shape and o.motion for o in claims):
            return text
    raise AssertionError("no caption names it all")


def read_clip(clip: Clip) -> Reading:
    return read(clip.to_uint8(), clip.fps)


def is_right(words: str, clip: Clip, *attributes: str) -> bool:
    verdict = judge(words, read_clip(clip))
    return all(verdict.get(name, True) for name in attributes or ("whole",))


def cut(clip: Clip, start: int, stop: int | None = None) -> Clip:
    return Clip(clip.frames[start:stop], clip.fps)


def step_sizes(clip: Clip) -> np.ndarray:
    """How far each frame is from the one before it: the root mean square of the pixels' change."""
    return np.sqrt(np.square(np.diff(clip.frames, axis=0)).mean(axis=(1, 2, 3)))


def off_path(clip: Clip, frame: int, true: Clip, at: int) -> float:
    """How far the object in `frame` is from where it is in frame `at` of the scene's own clip, in pixels of a
    64-pixel frame; 99 where there is none.

    Beside a kept frame, which is where it was, this is how far the velocity across the joint is from the scene's own.
    What the last kept velocities lead to would be no measure: real clips that bounce there miss it.
    """
    near = read_clip(cut(clip, max(frame - 6, 0), frame + 6))
    own = read_clip(cut(true, max(at - 6, 0), at + 6))
    right = own.objects[0].track[min(at, 6), :2]
    apart = [np.hypot(*(one.track[min(frame, 6), :2] - right)) for one in near.objects]
    apart = [far for far in apart if np.isfinite(far)]
    return 64 * float(max(apart)) if apart else 99.0


ENDLESS = ("circles around", "bounces", "spins", "stays still")
"""Motions without a start and an end."""


def endless_scene(seed: int) -> Scene:
    """A scene that any seconds before and after a clip of it are known of."""
    return fresh_scene(seed, motion=ENDLESS[seed // 2 % 4])


def real_step(pipeline: Pipeline) -> float:
    """The median, over real clips, of the largest step."""
    return float(np.median([step_sizes(shot_of(pipeline, fresh_scene(i))).max() for i in range(24)]))
