"""Times the operations on this machine.

sora-jax bench ops

sora-jax bench ops --only convolution --seconds 3 --json
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax bench`."""

    what: tyro.conf.Positional[Literal["ops"]]
    """What to time: `ops`, the lowerings of attention and convolution."""
    only: str = ""
    """Time only cases with this in their name."""
    seconds: float = 1.0
    """Time for each lowering, forward and again for gradients."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON in place of the table."""


def run(args: Args) -> int:
    """Times, and prints a table or JSON."""
    if not 0 < args.seconds <= 3600:
        raise ValueError(f"seconds is {args.seconds:g} and must be above 0 and at most 3600.")
    from rich.console import Console
    from rich.table import Table

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
    table = Table(title="GFLOP/s, and how many times as fast as XLA's own")
    for name in ("case", "lowering"):
        table.add_column(name, no_wrap=True)
    for name in ("forward", "times", "gradients", "times"):
        table.add_column(name, justify="right")
    for i, figure in enumerate(figures):
        new = i == 0 or figures[i - 1].case != figure.case
        table.add_row(
            figure.case if new else "",
            figure.lowering,
            f"{figure.forward:.0f}",
            f"{figure.forward_ratio:.1f}",
            f"{figure.gradients:.0f}",
            f"{figure.gradients_ratio:.1f}",
            end_section=i + 1 < len(figures) and figures[i + 1].case != figure.case,
        )
    Console(width=None if sys.stdout.isatty() else 120).print(table)
    return 0
