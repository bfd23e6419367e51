"""Times the operations on this machine, and what makes a model's sampling faster.

sora-jax bench ops --only convolution --seconds 3

sora-jax bench cache --model playground --steps 30

sora-jax bench quantize --model playground
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any, Literal

import tyro

__all__ = ["Args", "run"]

PROMPT = "a red circle moves right"


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax bench`."""

    what: tyro.conf.Positional[Literal["ops", "cache", "quantize"]]
    """What to measure: `ops`, the lowerings of attention and convolution; `cache`, sampling with steps left out;
    `quantize`, what half precision and 8-bit weights save and cost."""
    only: str = ""
    """Measure only cases with this in their name."""
    seconds: float = 1.0
    """Time for each lowering, forward and again for gradients (ops)."""
    model: str = "playground"
    """A model's name, or a folder of weights (cache, quantize)."""
    prompt: tuple[str, ...] = (PROMPT,)
    """What to sample, as one batch (cache, quantize)."""
    steps: int | None = None
    """Sampling steps; the model's default where not given (cache, quantize)."""
    size: str | None = None
    """WIDTHxHEIGHT in pixels; the model's default where not given (cache, quantize)."""
    frames: int | None = None
    """Frames; the model's default where not given (cache, quantize)."""
    repeats: int = 3
    """Runs of each setting, of which the fastest counts (cache)."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON in place of the table."""


def run(args: Args) -> int:
    """Times, and prints a table or JSON."""
    if not 0 < args.seconds <= 3600:
        raise ValueError(f"seconds is {args.seconds:g} and must be above 0 and at most 3600.")
    if not 1 <= args.repeats <= 1000:
        raise ValueError(f"repeats is {args.repeats} and must be from 1 to 1000.")
    return {"ops": _ops, "cache": _cache, "quantize": _quantize}[args.what](args)


def _print(title: str, words: tuple[str, ...], numbers: tuple[str, ...], rows: list[list[str]]) -> None:
    """A table whose first columns are `words`; of several, a line is drawn where the first one changes."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title)
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right")
    for i, row in enumerate(rows):
        new = i == 0 or rows[i - 1][0] != row[0]
        ends = len(words) > 1 and i + 1 < len(rows) and rows[i + 1][0] != row[0]
        table.add_row(row[0] if new else "", *row[1:], end_section=ends)
    Console(width=None if sys.stdout.isatty() else 120).print(table)


def _ops(args: Args) -> int:
    from rich.console import Console

    from sora_jax.evals.bench.ops import CASES, measure

    cases = tuple(case for case in CASES if args.only in case.name)
    if not cases:
        raise ValueError(
            f"no case has {args.only!r} in its name: they are {'; '.join(c.name for c in CASES)}."
        )
    figures = []
    with Console(stderr=True).status("measuring") as status:
        for figure in measure(cases, args.seconds):
            figures.append(figure)
            status.update(f"measured {figure.case}: {figure.lowering}")
    if args.as_json:
        print(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=2))
        return 0
    rows = [
        [
            figure.case,
            figure.lowering,
            f"{figure.forward:.0f}",
            f"{figure.forward_ratio:.1f}",
            f"{figure.gradients:.0f}",
            f"{figure.gradients_ratio:.1f}",
        ]
        for figure in figures
    ]
    numbers = ("forward", "times", "gradients", "times")
    _print("GFLOP/s, and how many times as fast as XLA's own", ("case", "lowering"), numbers, rows)
    return 0


def _request(args: Args, config: Any) -> Any:
    from sora_jax.studio.request import resolve

    return resolve(config, args.prompt, steps=args.steps, size=args.size, frames=args.frames)


def _cache(args: Args) -> int:
    from rich.console import Console

    from sora_jax.evals.bench.cache import THRESHOLDS, choices, measure, measured_ratios
    from sora_jax.studio.pipeline import load

    names = [name for name in THRESHOLDS if args.only in name]
    if not names:
        raise ValueError(f"no rule has {args.only!r} in its name: they are {', '.join(THRESHOLDS)}.")
    pipeline = load(args.model)
    request = _request(args, pipeline.config)
    figures = []
    with Console(stderr=True).status("measuring the run without a cache") as status:
        ratios = measured_ratios(pipeline, request)
        caches = list(choices(names, ratios))
        for figure in measure(pipeline, request, caches, args.repeats):
            figures.append(figure)
            status.update(f"measured {figure.rule} at {figure.threshold:g}")
    if args.as_json:
        rows = [dataclasses.asdict(figure) for figure in figures]
        print(json.dumps({"ratios": [float(ratio) for ratio in ratios], "figures": rows}, indent=2))
        return 0
    rows = [
        [
            figure.rule,
            str(figure.order),
            f"{figure.threshold:g}",
            f"{figure.evaluations}/{figure.steps}",
            f"{figure.seconds:.2f}",
            f"{figure.speed_up:.2f}",
            f"{figure.psnr:.1f}",
            f"{figure.worst:.1f}",
        ]
        for figure in figures
    ]
    numbers = ("threshold", "evaluated", "seconds", "times as fast", "PSNR", "worst clip")
    title = f"{pipeline.config.name}, {request.sampler}: steps left out, against the run without"
    _print(title, ("rule", "order"), numbers, rows)
    return 0


def _quantize(args: Args) -> int:
    from rich.console import Console

    from sora_jax.evals.bench.quantize import KINDS, measure
    from sora_jax.weights import load

    kinds = [kind for kind in KINDS if args.only in kind]
    if not kinds:
        raise ValueError(f"no kind has {args.only!r} in its name: they are {'; '.join(KINDS)}.")
    checkpoint = load(args.model)
    figures = []
    with Console(stderr=True).status("measuring float32") as status:
        for figure in measure(checkpoint, _request(args, checkpoint.config), kinds):
            figures.append(figure)
            status.update(f"measured {figure.kind}")
    if args.as_json:
        print(json.dumps([dataclasses.asdict(figure) for figure in figures], indent=2))
        return 0
    rows = [
        [figure.kind, f"{figure.bytes / 1e6:.1f}", f"{figure.velocity_error:.1e}", f"{figure.psnr:.1f}"]
        for figure in figures
    ]
    _print(
        f"{checkpoint.config.name}, against float32", ("kept as",), ("MB", "velocity's error", "PSNR"), rows
    )
    return 0
