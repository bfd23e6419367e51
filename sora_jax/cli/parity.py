"""Runs a published checkpoint here and by diffusers on the same inputs, and says how far apart they come out.

sora-jax parity Wan2.1-T2V-1.3B-Diffusers

sora-jax parity Wan2.1-T2V-1.3B-Diffusers --steps 50 --size 832x480 --frames 33 --json

Needs Torch: pip install 'sora_jax[parity]'. Both copies are loaded, in float32. The exit code is 1 when a bound
is broken.
"""

import dataclasses
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

__all__ = ["Args", "run"]

MODELS_OWN = tyro.conf.arg(help_behavior_hint="(default: the model's)")
SMALL = tyro.conf.arg(help_behavior_hint="(default: a few tokens)")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax parity`."""

    folder: tyro.conf.Positional[Path]
    """A checkpoint in the diffusers layout."""
    prompt: str = "a red circle moves right"
    """What the whole generation is of."""
    negative: Annotated[str | None, MODELS_OWN] = None
    """What it is steered away from."""
    steps: int = 10
    """Sampling steps of the whole generation."""
    seed: int = 0
    """Of the inputs."""
    size: Annotated[str | None, SMALL] = None
    """WIDTHxHEIGHT in pixels."""
    frames: Annotated[int | None, SMALL] = None
    """Frames of the clip."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON in place of the table."""


def run(args: Args) -> int:
    """Compares, and prints a table or JSON; 1 where a bound is broken."""
    from rich.console import Console
    from rich.table import Table

    from sora_jax.evals.parity import compare

    figures = []
    with Console(stderr=True).status("loading") as status:
        stages = compare(
            args.folder,
            prompt=args.prompt,
            negative=args.negative,
            steps=args.steps,
            seed=args.seed,
            size=args.size,
            frames=args.frames,
        )
        for figure in stages:
            figures.append(figure)
            status.update(f"compared: {figure.stage}")
    if args.as_json:
        rows = [dataclasses.asdict(figure) | {"kept": figure.kept} for figure in figures]
        print(json.dumps(rows, indent=2))
    else:
        table = Table(title=f"{args.folder.name}: here and by diffusers, float32")
        table.add_column("stage", no_wrap=True)
        for name in ("relative error", "bound", "kept"):
            table.add_column(name, justify="right")
        for figure in figures:
            table.add_row(
                figure.stage, f"{figure.error:.1e}", f"{figure.bound:.0e}", "yes" if figure.kept else "NO"
            )
        Console(width=None if sys.stdout.isatty() else 100).print(table)
    return 0 if all(figure.kept for figure in figures) else 1
