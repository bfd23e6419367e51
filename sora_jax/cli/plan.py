"""Plan an experiment on TPUs that aren't there: compile its own program for them, and say what it would take and cost.

FILE is a training or a sampling experiment. Whether it fits, memory by what holds it, FLOPs, what is sent over which
network, and a bound on the time of a step: docs/planning.md says how each is found. It needs no TPU, and
`pip install 'sora_jax[tpu]'`.

examples:
  $ sora-jax plan experiments/train/wan2_1_14b_720p.py --topology v5p:4x4x4 --samples 1000000
  $ sora-jax plan experiments/train/wan2_1_1_3b_480p.py --topology v6e-16 --search --tries 6
  $ sora-jax plan experiments/train/wan2_1_1_3b_480p.py --topology 2xv6e:16x16 --data 2 --fsdp 256 --batch 512 --json
"""

import dataclasses
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sora_jax.models.remat import Remat

__all__ = ["main"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax plan`."""

    experiment: tyro.conf.Positional[Path]
    """A file of experiments/train or experiments/sample."""
    topology: str
    """v5e:4x4, v5p:4x4x4, v6e-16, tpu7x:4x4x4, 2xv5p:4x4x8 for two slices; cpu:8 for fake devices of this machine."""
    data: int | None = None
    """Devices along this axis of the mesh; where none is given, the experiment's. One may be -1, all that are left."""
    fsdp: int | None = None
    context: int | None = None
    tensor: int | None = None
    attention: Literal["ulysses_ring", "ulysses", "ring", "all_gather"] | None = None
    """How tokens on different devices of the context axis meet."""
    remat: Remat | None = None
    """What the backward pass computes again, in place of the experiment's."""
    batch: int | None = None
    """Clips of a step on all devices, in place of the experiment's."""
    accumulate: int | None = None
    """Parts that a batch is computed in, in place of the experiment's."""
    samples: int | None = None
    """Clips to train on, or to make: chip-hours and dollars at least."""
    price: float | None = None
    """US dollars a chip-hour, in place of the list price."""
    search: bool = False
    """Try meshes, remats and parts, and rank them."""
    tries: int = 8
    """How many of them to compile, the most promising first."""
    hlo: Path | None = None
    """Also write the compiled program's text here; not with --search."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print JSON in place of tables; a list with --search."""


def main(arguments: Sequence[str]) -> int:
    """Plans, and prints tables or JSON. 0 where it fits, 1 where nothing tried does."""
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    args = tyro.cli(
        Args,
        prog="sora-jax plan",
        description=__doc__,
        args=list(arguments),
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    for name in ("batch", "accumulate", "samples", "tries"):
        if (value := getattr(args, name)) is not None and value < 1:
            raise ValueError(f"{name} is {value}: it must be at least 1.")
    if args.price is not None and args.price < 0:
        raise ValueError(f"price is {args.price}: it must be 0 or more.")
    # The programs are for devices that aren't there, and the process needs none of those that are.
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    from rich.console import Console

    from sora_jax.evals.plan.program import load_work, with_settings
    from sora_jax.evals.plan.report import ranking, table
    from sora_jax.evals.plan.topology import parse_topology

    topology = parse_topology(args.topology)
    work = with_settings(
        load_work(args.experiment), remat=args.remat, batch=args.batch, accumulate=args.accumulate
    )
    work = with_settings(work, mesh=_mesh(args, work))
    with Console(stderr=True).status("compiling") as status:
        plans = _search(args, work, topology, status) if args.search else [_plan(args, work, topology)]
    if args.as_json:
        records = [plan.record() for plan in plans]
        print(json.dumps(records if args.search else records[0], indent=2))
    else:
        console = Console(width=None if sys.stdout.isatty() else 120)
        if args.search:
            console.print(ranking(plans))
        console.print(table(plans[0]))
    return 1 if plans[0].fits is False else 0


def _mesh(args: Args, work: Any) -> Any:
    """The experiment's mesh with the axes that were given; None for it as it is."""
    from sora_jax.evals.plan.program import mesh_of_work

    names = ("data", "fsdp", "context", "tensor", "attention")
    given = {name: value for name in names if (value := getattr(args, name)) is not None}
    if not given:
        return None
    return dataclasses.replace(mesh_of_work(work), **given)


def _plan(args: Args, work: Any, topology: Any) -> Any:
    from sora_jax.evals.plan.plan import make_plan

    hlo = None if args.search else args.hlo
    settings = {"samples": args.samples, "price": args.price, "hlo": hlo, "whole": not args.search}
    return make_plan(work, topology, str(args.experiment), **settings)


def _search(args: Args, work: Any, topology: Any, status: Any) -> list[Any]:
    from sora_jax.evals.plan.search import choices, ranked

    found = choices(work, topology)[: args.tries]
    plans = []
    for number, choice in enumerate(found, 1):
        status.update(f"compiling {number} of {len(found)}: {choice.mesh}, remat {choice.remat}")
        plans.append(_plan(args, choice.of(work), topology))
    return ranked(plans)
