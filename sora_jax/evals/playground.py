"""Does the clip show what the prompt says? Fresh captions of the playground, sampled, read by the oracle.

A group is a kind of caption and what must be right in its clips. Scenes are drawn from numbers that no training run
reaches, and a caption is taken only if it names what its group is about and nothing else.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import numpy as np

from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.claims import OBJECT_ATTRIBUTES, SCENE_ATTRIBUTES, Claims, judge, parse
from sora_jax.data.playground.oracle import read
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import (
    BACKGROUND_KINDS,
    CAMERAS,
    EXTRA_SHAPES,
    LIGHTS,
    SHAPES,
    SIZES,
    draw_scene,
)
from sora_jax.evals.intervals import wilson
from sora_jax.media import Clip, from_uint8, psnr, to_uint8
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve

__all__ = [
    "EXTRA_GROUPS",
    "FRESH",
    "GROUPS",
    "Group",
    "Result",
    "Shown",
    "evaluate",
    "prompts_of",
    "vae_psnr",
]

FRESH = 2**40
"""Scenes from this number on are never trained on."""
BATCH = 16
SIMPLE = {"camera": "still", "light": "steady", "occluder": False}
TRIPLE = frozenset(("color", "shape", "motion"))
Progress = Callable[[str, int, int], None]
T = TypeVar("T")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Group:
    """Captions of one kind."""

    title: str
    needs: float
    """The rate asked of the shipped weights."""
    scored: tuple[str, ...] = ("whole",)
    """What `judge` must find right; an attribute that a caption doesn't name is not asked for."""
    names: tuple[frozenset[str], ...] = (TRIPLE,)
    """The sets of attributes that a caption of this group may name; it names exactly one of them."""
    split: str = "train"
    constraints: tuple[dict[str, Any], ...] = ({},)
    """Scenes meet these in turn, besides being simple in what they don't mention."""
    objects: int = 1


def _with(*extra: str) -> frozenset[str]:
    return TRIPLE | frozenset(extra)


GROUPS: dict[str, Group] = {
    "one_object": Group(title="one object: colour, shape, motion", needs=0.90),
    "held_out": Group(title="one object, held-out pair", needs=0.70, split="held_out"),
    "two_objects": Group(title="two objects", needs=0.60, objects=2),
    "size": Group(
        title="size",
        needs=0.80,
        scored=("size",),
        names=(_with("size"),),
        constraints=tuple({"size": size} for size in SIZES),
    ),
    "background": Group(
        title="background",
        needs=0.80,
        scored=("background", "background_color"),
        names=(_with("background_color"), _with("background", "background_color")),
        constraints=tuple({"background": kind} for kind in BACKGROUND_KINDS),
    ),
    "camera": Group(
        title="camera",
        needs=0.80,
        scored=("camera",),
        names=(_with("camera"),),
        constraints=tuple({"camera": camera} for camera in CAMERAS if camera != "still"),
    ),
    "light": Group(
        title="light",
        needs=0.80,
        scored=("light",),
        names=(_with("light"),),
        constraints=tuple({"light": light} for light in LIGHTS if light != "steady"),
    ),
    "occluder": Group(
        title="occluder",
        needs=0.80,
        scored=("occluder",),
        names=(_with("occluder"),),
        constraints=({"occluder": True},),
    ),
    "bounces": Group(
        title="bouncing path", needs=0.80, scored=("motion",), constraints=({"motion": "bounces"},)
    ),
    "circles": Group(
        title="circling path", needs=0.80, scored=("motion",), constraints=({"motion": "circles around"},)
    ),
}


EXTRA_GROUPS: dict[str, Group] = {
    "crescent": Group(
        title="a crescent: colour, shape, motion", needs=0.80, constraints=({"shape": "crescent"},)
    )
}
"""What only a model that was fine-tuned on it can show; measured where it is asked for by name."""


def _named(claims: Claims) -> frozenset[str]:
    """The attributes that a prompt names; of objects those that all of them have."""
    everywhere = [a for a in OBJECT_ATTRIBUTES if all(getattr(o, a) is not None for o in claims.objects)]
    somewhere = [a for a in OBJECT_ATTRIBUTES if any(getattr(o, a) is not None for o in claims.objects)]
    setting = [a for a in SCENE_ATTRIBUTES if getattr(claims, a) is not None]
    # An attribute of only one object is marked, so that it matches no group.
    return frozenset(setting) | {a if a in everywhere else f"some {a}" for a in somewhere}


def prompts_of(group: Group, count: int, first: int = FRESH) -> list[str]:
    """`count` captions of fresh scenes, the same for the same `first` scene's number."""
    found: list[str] = []
    for seed in itertools.count(first):
        if len(found) == count:
            return found
        want = {**SIMPLE, "objects": group.objects, **group.constraints[len(found) % len(group.constraints)]}
        scene = draw_scene(seed, split=group.split, **want)  # pyright: ignore
        for phrasing in range(200):
            text = caption(scene, phrasing, "short")
            claims = parse(text)
            if len(claims.objects) == group.objects and _named(claims) in group.names:
                found.append(text)
                break
    raise AssertionError("unreachable")


@dataclasses.dataclass(frozen=True)
class Shown:
    """A clip and how it was judged."""

    group: str
    prompt: str
    seed: int
    clip: Clip
    wrong: tuple[str, ...]

    @property
    def label(self) -> str:
        fault = f"  [wrong: {', '.join(self.wrong)}]" if self.wrong else ""
        return f"{self.group} {self.seed}: {self.prompt}{fault}"


@dataclasses.dataclass(frozen=True)
class Result:
    """`figures` as JSON holds them; some clips that failed and some that didn't, of every group."""

    figures: dict[str, Any]
    failures: list[Shown]
    successes: list[Shown]


def _rate(right: int, count: int, needs: float | None = None) -> dict[str, Any]:
    low, high = wilson(right, count)
    figures = {
        "right": right,
        "count": count,
        "rate": right / count if count else 0.0,
        "low": low,
        "high": high,
    }
    return figures if needs is None else {**figures, "needs": needs}


def _batches(items: Sequence[T], size: int) -> Iterator[list[T]]:
    """Batches of one size, the last one filled up with its last item: a program is compiled once a size."""
    for start in range(0, len(items), size):
        batch = list(items[start : start + size])
        yield batch + batch[-1:] * (min(size, len(items)) - len(batch))


def _sampled(
    pipeline: Pipeline, prompts: Sequence[str], batch: int, seed: int, options: dict[str, Any]
) -> Iterator[tuple[str, int, Clip]]:
    done = 0
    for rows in _batches(list(enumerate(prompts, seed)), batch):
        seeds = [number for number, _ in rows]
        request = resolve(pipeline.config, [text for _, text in rows], seed=seeds, **options)
        pixels = pipeline.decode_batch(pipeline.sample(request).latents)
        for (number, text), frames in zip(rows[: len(prompts) - done], pixels, strict=False):
            yield text, number, Clip(frames, request.size.fps)
        done += len(rows)


def _judged(
    pipeline: Pipeline,
    name: str,
    prompts: Sequence[str],
    scored: Sequence[str],
    batch: int,
    seed: int,
    options: dict[str, Any],
    progress: Progress,
    shapes: Sequence[str],
) -> tuple[dict[str, Any], list[Shown]]:
    right, shown = 0, []
    tally: dict[str, list[bool]] = {}
    progress(name, 0, len(prompts))
    for text, number, clip in _sampled(pipeline, prompts, batch, seed, options):
        verdict = judge(parse(text), read(to_uint8(clip.frames), clip.fps, shapes))
        for attribute, good in verdict.items():
            tally.setdefault(attribute, []).append(good)
        good = all(verdict.get(attribute, True) for attribute in scored)
        right += good
        asked = verdict if "whole" in scored else scored
        wrong = tuple(a for a in asked if a != "whole" and not verdict.get(a, True))
        shown.append(Shown(name, text, number, clip, wrong))
        progress(name, len(shown), len(prompts))
    parts = {attribute: _rate(sum(values), len(values)) for attribute, values in tally.items()}
    return {**_rate(right, len(prompts)), "attributes": parts}, shown


def vae_psnr(
    pipeline: Pipeline,
    count: int,
    *,
    batch: int = BATCH,
    first: int = FRESH,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """PSNR in dB of clips through the VAE, for fresh scenes of every kind; the mean over clips, ± 1.96 standard errors.

    PSNR = 10·log10(4 / mean (x - x̂)²), pixels in [-1, 1].
    """
    defaults = pipeline.config.defaults
    values: list[float] = []
    for numbers in _batches(range(count), batch):
        clips = [
            render(
                draw_scene(first + i, split="all"),
                height=defaults.height,
                width=defaults.width,
                frames=defaults.frames,
                fps=defaults.fps,
            )
            for i in numbers
        ]
        x = from_uint8(np.stack(clips))
        made = pipeline.decode_batch(pipeline.encode(x))
        values += [psnr(a, b) for a, b in zip(made, x, strict=True)][: count - len(values)]
        if progress:
            progress("vae", len(values), count)
    mean = float(np.mean(values))
    reach = 1.96 * float(np.std(values)) / max(len(values), 1) ** 0.5
    return {
        "psnr": mean,
        "low": mean - reach,
        "high": mean + reach,
        "worst": min(values),
        "count": count,
        "needs": 34.0,
    }


def evaluate(
    pipeline: Pipeline,
    *,
    count: int = 200,
    groups: Sequence[str] = (*GROUPS, "vae"),
    prompts: Sequence[str] = (),
    batch: int = BATCH,
    seed: int = 0,
    keep: int = 12,
    progress: Progress | None = None,
    **options: Any,
) -> Result:
    """Samples `count` clips of each group (or one of each of `prompts`) and judges them.

    Args:
        groups: names out of GROUPS and EXTRA_GROUPS, and "vae" for the reconstruction of fresh clips; not used with
            `prompts`.
        batch: clips made at once.
        seed: the noise of the first clip of each group; the others follow.
        keep: how many failures and successes of each group are given back.
        progress: called with (group, clips done, clips in all).
        options: as `Pipeline.generate` takes them: steps, guidance, sampler, ...

    Raises ValueError for a group that doesn't exist, or a prompt that claims nothing the oracle can check.
    """
    if count < 1 or batch < 1:
        raise ValueError(f"count is {count} and batch is {batch}: both must be at least 1.")
    report = progress or (lambda name, done, total: None)
    plan: dict[str, tuple[list[str], tuple[str, ...], float | None, str]] = {}
    if prompts:
        for text in prompts:
            if not _named(parse(text)):
                raise ValueError(
                    f"prompt {text[:60]!r} claims nothing that can be checked: name a colour, a shape, a motion, ..."
                )
        plan["prompts"] = (list(prompts), ("whole",), None, "given prompts")
        groups = ()
    known = {**GROUPS, **EXTRA_GROUPS}
    for name in groups:
        if name != "vae" and name not in known:
            raise ValueError(f"there is no group {name!r}: choose from {', '.join(known)}, vae.")
        if name != "vae":
            group = known[name]
            plan[name] = (prompts_of(group, count), group.scored, group.needs, group.title)
    texts_of_all = [text for texts, *_ in plan.values() for text in texts]
    extra = any(claim.shape in EXTRA_SHAPES for text in texts_of_all for claim in parse(text).objects)
    shapes = (*SHAPES, *EXTRA_SHAPES) if extra else SHAPES
    figures: dict[str, Any] = {"model": pipeline.config.name, "groups": {}}
    failures: list[Shown] = []
    successes: list[Shown] = []
    for name, (texts, scored, needs, title) in plan.items():
        rates, shown = _judged(pipeline, name, texts, scored, batch, seed, options, report, shapes)
        figures["groups"][name] = {"title": title, "needs": needs, "whole": "whole" in scored, **rates}
        failures += [one for one in shown if one.wrong][:keep]
        successes += [one for one in shown if not one.wrong][:keep]
    if "vae" in groups:
        figures["vae"] = vae_psnr(pipeline, count, batch=batch, progress=report)
    return Result(figures, failures, successes)
