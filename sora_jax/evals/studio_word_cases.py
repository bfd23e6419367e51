"""One case of each way to make a clip of words: at once, in other sizes, changed half way, streamed, expanded."""

import time

import numpy as np

from sora_jax.evals.studio_scenes import (
    ENDLESS,
    Case,
    Options,
    cut,
    endless_scene,
    fresh_scene,
    is_right,
    kept_db,
    words_of,
)
from sora_jax.media import Clip
from sora_jax.studio.expand import by_grammar
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.presets import PRESETS
from sora_jax.studio.request import resolve


def image(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = words_of(fresh_scene(seed))
    clip = pipeline.generate(words, frames=1, seed=seed, **options)
    return Case(clip=clip, label=words, truths={"whole": is_right(words, clip, "objects", "color", "shape")})


def changed(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = [words_of(fresh_scene(seed)), words_of(fresh_scene(seed + 50_000))]
    fresh = pipeline.generate(words[1], seed=seed, **options)
    plain = {k: v for k, v in options.items() if k != "progress"}
    request = resolve(pipeline.config, [words[0]], seed=seed, **plain)
    truths, clip = {"generated": is_right(words[1], fresh, "color", "shape")}, None
    for share in (0.05, 0.1, 0.2, 0.4):
        going = pipeline.advance(pipeline.begin(request), round(share * request.steps))
        clip = pipeline.finish(pipeline.advance(pipeline.change(going, prompt=words[1]), request.steps))[0]
        truths[f"at {share:.0%}"] = is_right(words[1], clip, "color", "shape")
    assert clip is not None
    return Case(clip=clip, label=" -> ".join(words), truths=truths)


def stream(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = words_of(fresh_scene(seed))
    d = pipeline.config.defaults
    began, first = time.perf_counter(), 0.0
    frames: list[np.ndarray] = []
    for chunk in pipeline.stream(words, seconds=d.frames / d.fps, seed=seed, **options):
        first = first or time.perf_counter() - began
        frames.append(chunk.frames)
    clip = Clip(np.concatenate(frames), d.fps)
    rate = (len(clip) - len(frames[0])) / max(time.perf_counter() - began - first, 1e-9)
    whole = pipeline.generate(words, seed=seed, **options)
    return Case(
        clip=clip,
        label=words,
        truths={"generated": is_right(words, whole), "streamed": is_right(words, clip)},
        figures={"seconds to the first frame": first, "frames/s": rate},
    )


def long_stream(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """Its last two seconds, after several windows."""
    words = words_of(endless_scene(seed))
    frames = [chunk.frames for chunk in pipeline.stream(words, seconds=6, seed=seed, **options)]
    return _streamed(pipeline, np.concatenate(frames), words, words, seed, options)


def steered(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """The object is told to move otherwise after three of six seconds."""
    one = endless_scene(seed).objects[0]
    other = ENDLESS[(ENDLESS.index(one.motion) + 1) % len(ENDLESS)]
    words = [f"a {one.color} {one.shape} {motion}" for motion in (one.motion, other)]
    fps = pipeline.config.defaults.fps
    frames: list[np.ndarray] = []

    def said() -> str:
        return words[sum(map(len, frames)) >= 3 * fps]

    for chunk in pipeline.stream(said, seconds=6, seed=seed, **options):
        frames.append(chunk.frames)
    return _streamed(pipeline, np.concatenate(frames), " -> ".join(words), words[1], seed, options)


def _streamed(
    pipeline: Pipeline, frames: np.ndarray, label: str, words: str, seed: int, options: Options
) -> Case:
    d = pipeline.config.defaults
    clip, whole = Clip(frames, d.fps), pipeline.generate(words, seed=seed, **options)
    end = cut(clip, len(clip) - d.frames)
    return Case(
        clip=clip,
        label=label,
        truths={"generated": is_right(words, whole), "streamed": is_right(words, end)},
    )


DEFAULT_SIZE = (64, 64, 17)
TRAINED_SIZES = ((64, 112, 17), (112, 64, 17), (96, 96, 17), (64, 64, 33))
"""Beside the default, those of `experiments/train/playground_dit.py`."""
NEW_SIZES = ((80, 80, 17), (64, 96, 25))


def sizes(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = words_of(fresh_scene(seed))
    truths, clip = {}, None
    for height, width, frames in (DEFAULT_SIZE, *TRAINED_SIZES, *NEW_SIZES):
        clip = pipeline.generate(words, size=(height, width), frames=frames, seed=seed, **options)
        truths[f"{width}x{height}x{frames}"] = is_right(words, clip)
    assert clip is not None
    return Case(clip=clip, label=words, truths=truths)


def variations(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = words_of(fresh_scene(seed))
    clips = pipeline.generate(words, variations=4, seed=4 * seed, **options)
    apart = min(kept_db(a.frames, b.frames) for i, a in enumerate(clips) for b in clips[:i])
    return Case(
        clip=clips[0],
        label=words,
        truths={"all right": all(is_right(words, clip) for clip in clips), "distinct": apart < 30},
    )


def expansion(pipeline: Pipeline, seed: int, options: Options, motion: bool = False) -> Case:
    one = fresh_scene(seed).objects[0]
    words = f"{one.color} {one.shape}" + f" {one.motion}" * motion
    plain = pipeline.generate(words, seed=seed, **options)
    longer = pipeline.generate(words, expand=lambda prompt: by_grammar(prompt, seed), seed=seed, **options)
    said = longer.metadata["prompt"]
    return Case(
        clip=longer,
        label=f"{words} => {said}",
        truths={"short": is_right(words, plain), "expanded": is_right(words, longer)},
    )


def terse(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """As `expansion`, of words that name a motion as well."""
    return expansion(pipeline, seed, options, motion=True)


def presets(pipeline: Pipeline, seed: int, options: Options) -> Case:
    kind = ("camera", "light")[seed % 2]
    names = [name for name in PRESETS[kind] if name not in ("still", "steady")]
    name = names[seed // 2 % len(names)]
    scene = fresh_scene(seed, motion="stays still")
    clip = pipeline.generate(words_of(scene), presets=[name], seed=seed, **options)
    return Case(
        clip=clip,
        label=clip.metadata["prompt"],
        truths={"followed": is_right(clip.metadata["prompt"], clip, kind)},
    )
