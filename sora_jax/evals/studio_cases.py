"""One case of each edit: a fresh scene of the playground is edited, and the oracle and the pixels say what came of it.

What people would bring, a clip or a picture, is rendered, so that a fault is the edit's own.
"""

import dataclasses
import time
from typing import Any

import numpy as np

from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.claims import judge, parse
from sora_jax.data.playground.oracle import Reading, read
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import COLORS, Scene, draw_scene
from sora_jax.evals.playground import FRESH, SIMPLE
from sora_jax.media import Clip, psnr
from sora_jax.studio.edits import Card
from sora_jax.studio.expand import by_grammar
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.presets import PRESETS
from sora_jax.studio.request import resolve

Options = dict[str, Any]


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


def _scene(seed: int, **want: Any) -> Scene:
    return draw_scene(FRESH + seed, **{**SIMPLE, "objects": 1, **want})


def _shot(pipeline: Pipeline, scene: Scene, frames: int | None = None) -> Clip:
    """The scene as a clip of the model's own size, with its caption."""
    d = pipeline.config.defaults
    pixels = render(scene, height=d.height, width=d.width, frames=frames or d.frames, fps=d.fps)
    return Clip.from_uint8(pixels, d.fps, {"prompt": _words(scene)})


def _words(scene: Scene) -> str:
    """A short caption that names colour, shape and motion."""
    for phrasing in range(200):
        text = caption(scene, phrasing, "short")
        claims = parse(text).objects
        if len(claims) == len(scene.objects) and all(o.color and o.shape and o.motion for o in claims):
            return text
    raise AssertionError("no caption names it all")


def _read(clip: Clip) -> Reading:
    return read(clip.to_uint8(), clip.fps)


def _right(words: str, clip: Clip, *attributes: str) -> bool:
    verdict = judge(words, _read(clip))
    return all(verdict.get(name, True) for name in attributes or ("whole",))


def _cut(clip: Clip, start: int, stop: int | None = None) -> Clip:
    return Clip(clip.frames[start:stop], clip.fps)


def _steps(clip: Clip) -> np.ndarray:
    """How far each frame is from the one before it: the root mean square of the pixels' change."""
    return np.sqrt(np.square(np.diff(clip.frames, axis=0)).mean(axis=(1, 2, 3)))


def _off(clip: Clip, frame: int, true: Clip, at: int) -> float:
    """How far the object in `frame` is from where it is in frame `at` of the scene's own clip, in pixels of a
    64-pixel frame; 99 where there is none.

    Beside a kept frame, which is where it was, this is how far the velocity across the joint is from the scene's own.
    What the last kept velocities lead to would be no measure: real clips that bounce there miss it.
    """
    near = _read(_cut(clip, max(frame - 6, 0), frame + 6))
    own = _read(_cut(true, max(at - 6, 0), at + 6))
    right = own.objects[0].track[min(at, 6), :2]
    apart = [np.hypot(*(one.track[min(frame, 6), :2] - right)) for one in near.objects]
    apart = [far for far in apart if np.isfinite(far)]
    return 64 * float(max(apart)) if apart else 99.0


def image(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = _words(_scene(seed))
    clip = pipeline.generate(words, frames=1, seed=seed, **options)
    return Case(clip=clip, label=words, truths={"whole": _right(words, clip, "objects", "color", "shape")})


def animate(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = _scene(seed)
    true = _shot(pipeline, scene)
    words = _words(scene)
    clip = pipeline.animate(true, words, seed=seed, **options)
    kept = kept_db(clip.frames[0], true.frames[0])
    return Case(
        clip=clip, label=words, truths={"motion": _right(words, clip, "motion")}, figures={"kept": kept}
    )


def keyframes(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = _scene(seed)
    true = _shot(pipeline, scene)
    last = _cut(true, len(true) - 1)
    words = _words(scene)
    clip = pipeline.animate(true, words, last_image=last, seed=seed, **options)
    kept = min(kept_db(clip.frames[i], true.frames[i]) for i in (0, -1))
    return Case(
        clip=clip, label=words, truths={"motion": _right(words, clip, "motion")}, figures={"kept": kept}
    )


def _going_on(seed: int) -> Scene:
    """A scene that any seconds before and after a clip of it are known of: its motion has no start and no end."""
    return _scene(seed, motion=("circles around", "bounces", "spins", "stays still")[seed // 2 % 4])


def extend(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = _going_on(seed)
    words = _words(scene)
    length, new = pipeline.config.defaults.frames, round(pipeline.config.defaults.fps)
    whole = _shot(pipeline, scene, length + new)
    direction: Any = ("forward", "backward")[seed % 2]
    first, made = (0, length) if direction == "forward" else (new, new - 1)
    known = _cut(whole, first, first + length)
    clip = pipeline.extend(known, words, seconds=new / whole.fps, direction=direction, seed=seed, **options)
    part = _cut(clip, first, first + length)
    return Case(
        clip=clip,
        label=f"{words} ({direction})",
        truths={"joint": _off(clip, made, whole, made) <= 1, "look": _right(words, clip, "color", "shape")},
        figures={"kept": kept_db(part.frames, known.frames)},
    )


def minute(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = _scene(seed, motion=("circles around", "bounces", "spins", "stays still")[seed % 4])
    words = _words(scene)
    true = _shot(pipeline, scene)
    clip = pipeline.extend(true, words, seconds=60 - true.seconds, seed=seed, **options)
    # Right still, along the way: the curve of the drift.
    spans = {
        second: _cut(clip, int(second * clip.fps) - 17, int(second * clip.fps)) for second in (15, 30, 45, 60)
    }
    truths = {f"{second} s": _right(words, part, "color", "shape") for second, part in spans.items()}
    return Case(clip=clip, label=words, truths=truths)


def _real_step(pipeline: Pipeline) -> float:
    """The median, over real clips, of the largest step."""
    return float(np.median([_steps(_shot(pipeline, _scene(i))).max() for i in range(24)]))


def connect(pipeline: Pipeline, seed: int, options: Options) -> Case:
    a = _scene(seed)
    one = a.objects[0]
    around = {"background": a.background, "background_color": a.background_color}
    b = _scene(seed + 50_000, color=one.color, shape=one.shape, **around)
    first, second = _shot(pipeline, a), _shot(pipeline, b)
    words = f"a {one.color} {one.shape} moves"
    clip = pipeline.connect(first, second, words, seconds=1.0, seed=seed, **options)
    kept = min(
        kept_db(clip.frames[: len(first)], first.frames), kept_db(clip.frames[-len(second) :], second.frames)
    )
    largest = _steps(_cut(clip, len(first) - 1, len(clip) - len(second) + 1)).max()
    real, own = _real_step(pipeline), max(_steps(first).max(), _steps(second).max())
    truths = {"smooth": largest <= 2 * real, "smooth, or as its clips": largest <= max(2 * real, own)}
    return Case(clip=clip, label=words, truths=truths, figures={"kept": kept})


def loop(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = _words(_scene(seed))
    clip = pipeline.loop(words, seed=seed, **options)
    seam = float(np.sqrt(np.square(clip.frames[-1] - clip.frames[0]).mean()))
    median = max(float(np.median(_steps(clip))), 1e-3)
    return Case(
        clip=clip, label=words, truths={"seam": seam <= 1.2 * median}, figures={"seam ratio": seam / median}
    )


def blend(pipeline: Pipeline, seed: int, options: Options) -> Case:
    a, b = _scene(seed), _scene(seed + 50_000)
    first, second = _shot(pipeline, a), _shot(pipeline, b)
    clip = pipeline.blend(first, second, seed=seed, **options)
    along = second.frames - first.frames
    share = np.einsum("thwc,thwc->t", clip.frames - first.frames, along) / np.square(along).sum(
        axis=(1, 2, 3)
    )
    return Case(
        clip=clip,
        label=f"{first.metadata['prompt']} -> {second.metadata['prompt']}",
        truths={
            "starts as A": _right(_words(a), _cut(clip, 0, 1), "color", "shape"),
            "ends as B": _right(_words(b), _cut(clip, len(clip) - 1), "color", "shape"),
            "monotone": bool((np.diff(share) > -0.1).all()),
        },
    )


def remix(pipeline: Pipeline, seed: int, options: Options) -> Case:
    scene = _scene(seed)
    one = scene.objects[0]
    color = next(c for c in (*COLORS[seed % 8 :], *COLORS) if c != one.color)
    true = _shot(pipeline, scene)
    words = f"a {color} {one.shape} {one.motion}"
    clip = pipeline.remix(true, words, seed=seed, **options)
    return Case(
        clip=clip,
        label=f"{_words(scene)} -> {words}",
        truths={"new colour": _right(words, clip, "color"), "motion kept": _right(words, clip, "motion")},
    )


def strength(pipeline: Pipeline, seed: int, options: Options) -> Case:
    true = _shot(pipeline, _scene(seed))
    words = _words(_scene(seed + 50_000))
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
    scene = _going_on(seed)
    words, whole = _words(scene), _shot(pipeline, scene, 33)
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
        off += [_off(clip, at - 1, whole, start - 1), _off(clip, end, whole, stop)]
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
    words = [_words(_scene(seed + 50_000 * i)) for i in range(3)]
    cards = [Card(at=2.0 * i, prompt=text, cut=i > 0) for i, text in enumerate(words)]
    clip = pipeline.storyboard(cards, seconds=6.0, seed=seed, **options)
    spans = [_cut(clip, 16 * i, 16 * (i + 1)) for i in range(3)]
    steps = _steps(clip)
    within = np.delete(steps, [15, 31])
    return Case(
        clip=clip,
        label=" | ".join(words),
        truths={
            "cards": all(_right(text, span) for text, span in zip(words, spans, strict=True)),
            "cuts": bool(min(steps[15], steps[31]) > within.max()),
        },
        figures={"cards right": float(np.mean([_right(t, s) for t, s in zip(words, spans, strict=True)]))},
    )


def inpaint(pipeline: Pipeline, seed: int, options: Options) -> Case:
    for draw in range(seed, seed + 50_000 * 40, 50_000):
        scene = _scene(draw, motion="stays still")
        if scene.objects[0].x < 0.32:
            break
    true = _shot(pipeline, scene)  # pyright: ignore[reportPossiblyUnbound]
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
        truths={"inside": _right(f"a {color} circle stays still", inside, "color", "shape")},
        figures={"kept": kept_db(clip.frames[:, ~mask], true.frames[:, ~mask])},
    )


def changed(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = [_words(_scene(seed)), _words(_scene(seed + 50_000))]
    plain = {k: v for k, v in options.items() if k != "progress"}
    request = resolve(pipeline.config, [words[0]], seed=seed, **plain)
    truths, clip = {}, None
    for share in (0.05, 0.1, 0.2, 0.4):
        going = pipeline.advance(pipeline.begin(request), round(share * request.steps))
        clip = pipeline.finish(pipeline.advance(pipeline.change(going, prompt=words[1]), request.steps))[0]
        truths[f"at {share:.0%}"] = _right(words[1], clip, "color", "shape")
    assert clip is not None
    return Case(clip=clip, label=" -> ".join(words), truths=truths)


def stream(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = _words(_scene(seed))
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
        truths={"streamed": _right(words, clip), "generated": _right(words, whole)},
        figures={"seconds to the first frame": first, "frames/s": rate},
    )


DEFAULT_SIZE = (64, 64, 17)
TRAINED_SIZES = ((64, 112, 17), (112, 64, 17), (96, 96, 17), (64, 64, 33))
"""Beside the default, those of `experiments/train/playground_dit.py`."""
NEW_SIZES = ((80, 80, 17), (64, 96, 25))


def sizes(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = _words(_scene(seed))
    truths, clip = {}, None
    for height, width, frames in (DEFAULT_SIZE, *TRAINED_SIZES, *NEW_SIZES):
        clip = pipeline.generate(words, size=(height, width), frames=frames, seed=seed, **options)
        truths[f"{width}x{height}x{frames}"] = _right(words, clip)
    assert clip is not None
    return Case(clip=clip, label=words, truths=truths)


def variations(pipeline: Pipeline, seed: int, options: Options) -> Case:
    words = _words(_scene(seed))
    clips = pipeline.generate(words, variations=4, seed=4 * seed, **options)
    apart = min(kept_db(a.frames, b.frames) for i, a in enumerate(clips) for b in clips[:i])
    return Case(
        clip=clips[0],
        label=words,
        truths={"all right": all(_right(words, clip) for clip in clips), "distinct": apart < 30},
    )


def expansion(pipeline: Pipeline, seed: int, options: Options) -> Case:
    one = _scene(seed).objects[0]
    words = f"{one.color} {one.shape}"
    plain = pipeline.generate(words, seed=seed, **options)
    longer = pipeline.generate(words, expand=lambda prompt: by_grammar(prompt, seed), seed=seed, **options)
    said = longer.metadata["prompt"]
    return Case(
        clip=longer,
        label=f"{words} => {said}",
        truths={"short": _right(words, plain), "expanded": _right(words, longer)},
    )


def presets(pipeline: Pipeline, seed: int, options: Options) -> Case:
    kind = ("camera", "light")[seed % 2]
    names = [name for name in PRESETS[kind] if name not in ("still", "steady")]
    name = names[seed // 2 % len(names)]
    scene = _scene(seed, motion="stays still")
    clip = pipeline.generate(_words(scene), presets=[name], seed=seed, **options)
    return Case(
        clip=clip,
        label=clip.metadata["prompt"],
        truths={"followed": _right(clip.metadata["prompt"], clip, kind)},
    )
