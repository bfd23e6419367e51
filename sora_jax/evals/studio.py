"""Does each edit do what it says? Cases from fresh scenes of the playground, counted and averaged, with intervals."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from sora_jax.evals import studio_cases as cases
from sora_jax.evals import studio_word_cases as made
from sora_jax.evals.intervals import wilson
from sora_jax.evals.playground import Shown
from sora_jax.evals.studio_scenes import Case
from sora_jax.studio.pipeline import Pipeline

__all__ = ["TASKS", "Task", "evaluate_studio"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Task:
    """One row of the table, or a few: `needs` are the least rates of the truths, and the least means of the figures."""

    title: str
    case: Callable[[Pipeline, int, dict[str, Any]], Case]
    needs: dict[str, float]
    below: float | None = None
    """How far each other truth's rate may lie below that of the first, which is `generate`'s."""
    share: float = 1.0
    """Of the count asked for: less where a case takes long."""


TASKS: dict[str, Task] = {
    "image": Task(title="text to image", case=made.image, needs={"whole": 0.9}),
    "animate": Task(title="image to video", case=cases.animate, needs={"motion": 0.85, "kept": 30}),
    "keyframes": Task(title="first and last image", case=cases.keyframes, needs={"motion": 0.85, "kept": 30}),
    "extend": Task(title="extend", case=cases.extend, needs={"joint": 0.9, "kept": 30}),
    "minute": Task(title="extend to 60 s", case=cases.minute, needs={"60 s": 0.8}, share=0.1),
    "connect": Task(title="connect", case=cases.connect, needs={"smooth": 0.9, "kept": 30}),
    "images": Task(title="connect two images", case=cases.images, needs={"smooth": 0.9, "kept": 30}),
    "loop": Task(title="loop", case=cases.loop, needs={"seam": 0.9}),
    "blend": Task(
        title="blend", case=cases.blend, needs={"starts as A": 0.9, "ends as B": 0.9, "monotone": 0.9}
    ),
    "curves": Task(
        title="blend, the other curves",
        case=cases.curves,
        needs=dict.fromkeys(("linear", "late", "early", "mix"), 0.9),
        share=0.5,
    ),
    "remix": Task(title="remix", case=cases.remix, needs={"new colour": 0.8, "motion kept": 0.8}),
    "strength": Task(
        title="remix by strength",
        case=cases.strength,
        needs={"monotone": 0.9, "0 is the clip": 1.0, "1 is a fresh one": 1.0},
    ),
    "recut": Task(title="recut", case=cases.recut, needs={"joints": 0.9, "kept": 30}),
    "retimed": Task(title="recut, the time between doubled", case=cases.retimed, needs={"kept": 30}),
    "storyboard": Task(title="storyboard", case=cases.storyboard, needs={"cards right": 0.8, "cuts": 0.9}),
    "inpaint": Task(title="inpaint", case=cases.inpaint, needs={"inside": 0.75, "kept": 30}),
    "retake": Task(title="retake a span", case=cases.retake, needs={"caption": 0.8, "kept": 30}),
    "outpaint": Task(title="outpaint", case=cases.outpaint, needs={"outside": 0.75, "kept": 30}),
    "change": Task(title="prompt changed half way", case=made.changed, needs={}, below=0.1),
    "stream": Task(title="stream", case=made.stream, needs={}, below=0.1),
    "long_stream": Task(title="stream for 6 s, its last two", case=made.long_stream, needs={}, below=0.1),
    "steered": Task(
        title="stream, its prompt changed half way", case=made.steered, needs={}, below=0.1, share=0.5
    ),
    "sizes": Task(
        title="sizes, the default first and two untrained ones last", case=made.sizes, needs={}, below=0.15
    ),
    "variations": Task(title="variations", case=made.variations, needs={"distinct": 0.9}),
    "expansion": Task(title="prompt expansion", case=made.expansion, needs={}, below=0.1),
    "terse": Task(title="prompt expansion, with a motion", case=made.terse, needs={}, below=0.1),
    "presets": Task(title="camera and light presets", case=made.presets, needs={"followed": 0.8}),
}
"""In the order of docs/studio.md."""


def evaluate_studio(
    pipeline: Pipeline,
    *,
    count: int = 100,
    tasks: Sequence[str] = tuple(TASKS),
    seed: int = 0,
    keep: int = 6,
    progress: Callable[[str, int, int], None] | None = None,
    **options: Any,
) -> tuple[dict[str, Any], list[Shown], list[Shown]]:
    """Figures of `count` cases of each task as JSON holds them, and some of the best and of the worst cases.

    options: as every edit takes them. Raises ValueError for a task that doesn't exist.
    """
    if unknown := [name for name in tasks if name not in TASKS]:
        raise ValueError(f"there is no task {unknown[0]!r}: choose from {', '.join(TASKS)}.")
    if count < 1:
        raise ValueError(f"count is {count}: it must be at least 1.")
    figures: dict[str, Any] = {"model": pipeline.config.name, "tasks": {}}
    best: list[Shown] = []
    worst: list[Shown] = []
    for name in tasks:
        task = TASKS[name]
        found = []
        few = max(1, round(count * task.share))
        for i in range(few):
            if progress:
                progress(name, i, few)
            found.append(task.case(pipeline, seed + i, {"progress": False, **options}))
        if progress:
            progress(name, few, few)
        rows = list(_rows(task, found))
        figures["tasks"][name] = {"title": task.title, "count": few, "rows": rows}
        ranked = sorted(enumerate(found), key=lambda pair: sum(pair[1].truths.values()))
        shown = [_shown(name, seed + i, case) for i, case in ranked]
        worst += [one for one in shown if one.wrong][:keep]
        best += [one for one in reversed(shown) if not one.wrong][:keep]
    return figures, best, worst


def _shown(name: str, number: int, case: Case) -> Shown:
    wrong = tuple(truth for truth, holds in case.truths.items() if not holds)
    return Shown(name, case.label, number, case.clip, wrong)


def _rows(task: Task, cases: Sequence[Case]) -> Iterator[dict[str, Any]]:
    """A row of each truth, with Wilson's interval of its rate, and of each figure, with ± 1.96 standard errors."""
    needs = dict(task.needs)
    counts = {name: sum(bool(case.truths[name]) for case in cases) for name in cases[0].truths}
    if task.below is not None:
        first, *others = counts
        needs |= dict.fromkeys(others, round(counts[first] / len(cases) - task.below, 6))
    for name, right in counts.items():
        low, high = wilson(right, len(cases))
        yield _row(needs, name, right / len(cases), low, high) | {"right": right}
    for name in cases[0].figures:
        values = [case.figures[name] for case in cases]
        value, reach = float(np.mean(values)), 1.96 * float(np.std(values)) / len(values) ** 0.5
        yield _row(needs, name, value, value - reach, value + reach)


def _row(needs: dict[str, float], name: str, value: float, low: float, high: float) -> dict[str, Any]:
    least = needs.get(name)
    met = None if least is None else bool(value >= least)
    return {"name": name, "value": value, "low": low, "high": high, "needs": least, "met": met}
