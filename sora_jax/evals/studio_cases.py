"""One case of each edit: a fresh scene of the playground is edited, and the oracle and the pixels say what came of it.

What people would bring, a clip or a picture, is rendered, so that a fault is the edit's own.
"""

from typing import Any

import numpy as np

from sora_jax.data.playground.scene import COLORS
from sora_jax.evals.studio_scenes import (
    ENDLESS,
    Case,
    Options,
    cut,
    endless_scene,
    fresh_scene,
    is_right,
    kept_db,
    off_path,
    read_clip,
    real_step,
    shot_of,
    step_sizes,
    words_of,
)
from sora_jax.media import Clip
from sora_jax.studio.edits import Card
from sora_jax.studio.edits.blend import influence
from sora_jax.studio.pipeline import Pipeline


def animate(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = fresh_scene(seed)
    true = shot_of(pipeline, scene)
    words = words_of(scene)
    clip = pipeline.animate(true, words, seed=seed, **options)
    kept = kept_db(clip.frames[0], true.frames[0])
    return Case(
        clip=clip, label=words, truths={"motion": is_right(words, clip, "motion")}, figures={"kept": kept}
    )


def keyframes(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = fresh_scene(seed)
    true = shot_of(pipeline, scene)
    last = cut(true, len(true) - 1)
    words = words_of(scene)
    clip = pipeline.animate(true, words, last_image=last, seed=seed, **options)
    kept = min(kept_db(clip.frames[i], true.frames[i]) for i in (0, -1))
    return Case(
        clip=clip, label=words, truths={"motion": is_right(words, clip, "motion")}, figures={"kept": kept}
    )


def extend(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = endless_scene(seed)
    words = words_of(scene)
    length, new = pipeline.config.defaults.frames, round(pipeline.config.defaults.fps)
    whole = shot_of(pipeline, scene, length + new)
    direction: Any = ("forward", "backward")[seed % 2]
    first, made = (0, length) if direction == "forward" else (new, new - 1)
    known = cut(whole, first, first + length)
    clip = pipeline.extend(known, words, seconds=new / whole.fps, direction=direction, seed=seed, **options)
    part = cut(clip, first, first + length)
    return Case(
        clip=clip,
        label=f"{words} ({direction})",
        truths={
            "joint": off_path(clip, made, whole, made) <= 1,
            "look": is_right(words, clip, "color", "shape"),
        },
        figures={"kept": kept_db(part.frames, known.frames)},
    )


def minute(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = fresh_scene(seed, motion=ENDLESS[seed % 4])
    words = words_of(scene)
    true = shot_of(pipeline, scene)
    clip = pipeline.extend(true, words, seconds=60 - true.seconds, seed=seed, **options)
    # Right still, along the way: the curve of the drift.
    spans = {
        second: cut(clip, int(second * clip.fps) - 17, int(second * clip.fps)) for second in (15, 30, 45, 60)
    }
    truths = {f"{second} s": is_right(words, part, "color", "shape") for second, part in spans.items()}
    return Case(clip=clip, label=words, truths=truths)


def connect(pipeline: Pipeline, seed: int, options: Options) -> Case:
    a = fresh_scene(seed)
    one = a.objects[0]
    around = {"background": a.background, "background_color": a.background_color}
    b = fresh_scene(seed + 50_000, color=one.color, shape=one.shape, **around)
    first, second = shot_of(pipeline, a), shot_of(pipeline, b)
    words = f"a {one.color} {one.shape} moves"
    clip = pipeline.connect(first, second, words, seconds=1.0, seed=seed, **options)
    kept = min(
        kept_db(clip.frames[: len(first)], first.frames), kept_db(clip.frames[-len(second) :], second.frames)
    )
    largest = step_sizes(cut(clip, len(first) - 1, len(clip) - len(second) + 1)).max()
    real, own = real_step(pipeline), max(step_sizes(first).max(), step_sizes(second).max())
    truths = {"smooth": largest <= 2 * real, "smooth, or as its clips": largest <= max(2 * real, own)}
    return Case(clip=clip, label=words, truths=truths, figures={"kept": kept})


def images(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """Two pictures of one object on one background."""
    a = fresh_scene(seed, motion="stays still")
    one = a.objects[0]
    around = {"background": a.background, "background_color": a.background_color}
    b = fresh_scene(seed + 50_000, color=one.color, shape=one.shape, motion="stays still", **around)
    first, second = shot_of(pipeline, a, 1), shot_of(pipeline, b, 1)
    words = f"a {one.color} {one.shape} moves"
    clip = pipeline.connect(first, second, words, seconds=1.0, seed=seed, **options)
    held = pipeline.config.vae.temporal_factor
    largest = step_sizes(cut(clip, 0, len(clip) - held + 1)).max()
    return Case(
        clip=clip,
        label=words,
        truths={
            "smooth": largest <= 2 * real_step(pipeline),
            "look": is_right(words, clip, "color", "shape"),
        },
        figures={
            "kept": min(kept_db(clip.frames[i], end.frames[0]) for i, end in ((0, first), (-1, second)))
        },
    )


def loop(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = words_of(fresh_scene(seed))
    clip = pipeline.loop(words, seed=seed, **options)
    seam = float(np.sqrt(np.square(clip.frames[-1] - clip.frames[0]).mean()))
    median = max(float(np.median(step_sizes(clip))), 1e-3)
    return Case(
        clip=clip, label=words, truths={"seam": seam <= 1.2 * median}, figures={"seam ratio": seam / median}
    )


def blend(pipeline: Pipeline, seed: int, options: Options) -> Case:
    a, b = fresh_scene(seed), fresh_scene(seed + 50_000)
    first, second = shot_of(pipeline, a), shot_of(pipeline, b)
    clip = pipeline.blend(first, second, seed=seed, **options)
    return Case(
        clip=clip,
        label=f"{first.metadata['prompt']} -> {second.metadata['prompt']}",
        truths={
            "starts as A": is_right(words_of(a), cut(clip, 0, 1), "color", "shape"),
            "ends as B": is_right(words_of(b), cut(clip, len(clip) - 1), "color", "shape"),
            "monotone": bool((np.diff(_share(clip, first, second)) > -0.1).all()),
        },
    )


def _share(clip: Clip, first: Clip, second: Clip) -> np.ndarray:
    """How much of the second clip each frame shows, by its pixels: 0 as the first, 1 as the second."""
    along = second.frames - first.frames
    apart = np.einsum("thwc,thwc->t", clip.frames - first.frames, along)
    return apart / np.square(along).sum(axis=(1, 2, 3))


def curves(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """Whether the frames show as much of both clips as each curve but the default one says."""
    first, second = shot_of(pipeline, fresh_scene(seed)), shot_of(pipeline, fresh_scene(seed + 50_000))
    truths, clip = {}, None
    for name in ("linear", "late", "early", "mix"):
        clip = pipeline.blend(first, second, curve=name, seed=seed, **options)
        off = _share(clip, first, second) - influence(name, len(clip), clip.fps)
        truths[name] = bool(np.abs(off).mean() <= 0.2)
    assert clip is not None
    return Case(clip=clip, label=f"{first.metadata['prompt']} -> {second.metadata['prompt']}", truths=truths)


def remix(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = fresh_scene(seed)
    one = scene.objects[0]
    color = next(c for c in (*COLORS[seed % 8 :], *COLORS) if c != one.color)
    true = shot_of(pipeline, scene)
    words = f"a {color} {one.shape} {one.motion}"
    clip = pipeline.remix(true, words, seed=seed, **options)
    return Case(
        clip=clip,
        label=f"{words_of(scene)} -> {words}",
        truths={"new colour": is_right(words, clip, "color"), "motion kept": is_right(words, clip, "motion")},
    )


def strength(pipeline: Pipeline, seed: int, options: Options) -> Case:
    true = shot_of(pipeline, fresh_scene(seed))
    words = words_of(fresh_scene(seed + 50_000))
    clips = [pipeline.remix(true, words, strength=s, seed=seed, **options) for s in (0.0, 0.5, 0.8, 1.0)]
    apart = [float(np.square(clip.frames - true.frames).mean()) for clip in clips]
    fresh = pipeline.generate(words, seed=seed, **options)
    return Case(
        clip=clips[2],
        label=words,
        truths={
            "monotone": apart == sorted(apart),
            "0 is the clip": apart[0] == 0,
            "1 is a fresh one": kept_db(clips[-1].frames, fresh.frames) > 40,
        },
    )


def recut(pipeline: Pipeline, seed: int, options: Options, second: int = 16) -> Case:
    """Two moments of a long clip, moved: what is before, between and after them is made anew."""
    scene = endless_scene(seed)
    words, whole = words_of(scene), shot_of(pipeline, scene, 33)
    moments = ((2, 10, 4), (14, 22, second))
    clip = pipeline.recut(
        whole,
        [(start / whole.fps, stop / whole.fps, at / whole.fps) for start, stop, at in moments],
        words,
        seconds=(second + 14) / whole.fps,
        seed=seed,
        **options,
    )
    off, kept = [], []
    for start, stop, at in moments:
        end = at + stop - start
        off += [off_path(clip, at - 1, whole, start - 1), off_path(clip, end, whole, stop)]
        kept.append(kept_db(clip.frames[at:end], whole.frames[start:stop]))
    held = np.less_equal(off, 1)
    return Case(
        clip=clip,
        label=words,
        truths={"all joints": bool(held.all())},
        figures={"joints": float(held.mean()), "kept": min(kept)},
    )


def retimed(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """As `recut`, with twice the time between the moments: what moves has to dwell somewhere."""
    return recut(pipeline, seed, options, second=20)


def storyboard(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = [words_of(fresh_scene(seed + 50_000 * i)) for i in range(3)]
    cards = [Card(at=2.0 * i, prompt=text, cut=i > 0) for i, text in enumerate(words)]
    clip = pipeline.storyboard(cards, seconds=6.0, seed=seed, **options)
    spans = [cut(clip, 16 * i, 16 * (i + 1)) for i in range(3)]
    steps = step_sizes(clip)
    within = np.delete(steps, [15, 31])
    return Case(
        clip=clip,
        label=" | ".join(words),
        truths={
            "cards": all(is_right(text, span) for text, span in zip(words, spans, strict=True)),
            "cuts": bool(min(steps[15], steps[31]) > within.max()),
        },
        figures={"cards right": float(np.mean([is_right(t, s) for t, s in zip(words, spans, strict=True)]))},
    )


def inpaint(pipeline: Pipeline, seed: int, options: Options) -> Case:
    for draw in range(seed, seed + 50_000 * 40, 50_000):
        scene = fresh_scene(draw, motion="stays still")
        if scene.objects[0].x < 0.32:
            break
    true = shot_of(pipeline, scene)  # pyright: ignore[reportPossiblyUnbound]
    one = scene.objects[0]  # pyright: ignore[reportPossiblyUnbound]
    color = next(c for c in (*COLORS[seed % 8 :], *COLORS) if c != one.color)
    mask = np.zeros(true.frames.shape[1:3], bool)
    mask[:, true.frames.shape[2] // 2 :] = True
    words = f"a {one.color} {one.shape} stays still and a {color} circle stays still"
    clip = pipeline.inpaint(true, words, mask=mask, seed=seed, **options)
    inside = Clip(np.where(mask[None, :, :, None], clip.frames, clip.frames[:, :, :1]), clip.fps)
    return Case(
        clip=clip,
        label=words,
        truths={"inside": is_right(f"a {color} circle stays still", inside, "color", "shape")},
        figures={"kept": kept_db(clip.frames[:, ~mask], true.frames[:, ~mask])},
    )


def retake(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """Half a second in the middle made anew, under the scene's own words."""
    scene = fresh_scene(seed)
    true, words = shot_of(pipeline, scene), words_of(scene)
    start, stop = len(true) // 2 - 2, len(true) // 2 + 2
    clip = pipeline.inpaint(true, words, span=(start / true.fps, stop / true.fps), seed=seed, **options)
    kept = [i for i in range(len(true)) if not start <= i < stop]
    new = cut(clip, start, stop)
    return Case(
        clip=clip,
        label=words,
        truths={"caption": is_right(words, clip) and is_right(words, new, "objects", "color", "shape")},
        figures={"kept": min(kept_db(clip.frames[i], true.frames[i]) for i in kept)},
    )


def outpaint(pipeline: Pipeline, seed: int, options: Options) -> Case:
    """A square clip in the middle of a wide frame: outside, there is its background and nothing else."""
    scene = fresh_scene(seed, motion="stays still")
    true, words = shot_of(pipeline, scene), words_of(scene)
    height, width = true.frames.shape[1:3]
    side = width * 3 // 8
    clip = pipeline.outpaint(true, words, size=(height, width + 2 * side), seed=seed, **options)
    inner = clip.frames[:, :, side:-side]
    around = Clip(np.concatenate([clip.frames[:, :, :side], clip.frames[:, :, -side:]], axis=2), clip.fps)
    seen = read_clip(around)
    return Case(
        clip=clip,
        label=words,
        truths={
            "outside": not seen.objects and seen.background_color == scene.background_color,
            "whole": is_right(words, clip, "objects", "color", "shape"),
        },
        figures={"kept": kept_db(inner, true.frames)},
    )
