"""An experiment on a topology: compiled, measured by what the compiler says, and bounded by the roofline."""

import dataclasses
import math
import re
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sora_jax.evals.plan.collectives import collectives, total_bytes
from sora_jax.evals.plan.hlo import parse_hlo
from sora_jax.evals.plan.program import Planned, Work, mesh_of_work, planned
from sora_jax.evals.plan.roofline import cost, roofline
from sora_jax.evals.plan.stages import stages
from sora_jax.evals.plan.topology import Topology, devices_of
from sora_jax.evals.plan.work import memory_bytes, product_flops
from sora_jax.parallel.mesh import AXES, make_mesh
from sora_jax.studio.sample import Sample
from sora_jax.train.flops import work_of

__all__ = ["OutOfMemory", "Plan", "make_plan"]

REFUSALS = (
    re.compile(r"Used ([\d.]+)([KMGT]?) of ([\d.]+)([KMGT]?) hbm"),
    re.compile(r"\(([\d.]+)([KMGT]?)\) exceeds available HBM \(([\d.]+)([KMGT]?)\)"),
)
UNITS = {"K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40, "": 1}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plan:
    """One experiment on one topology. What is None can't be told: of a program that doesn't fit all but memory, and
    times where the topology's peaks aren't known."""

    experiment: str
    topology: str
    said: str
    """How the topology's name was read."""
    chips: int
    devices: int
    mesh: dict[str, int]
    settings: dict[str, Any]
    fits: bool | None
    """None where the memory there is isn't known."""
    hbm_bytes_per_chip: int
    hbm_limit_bytes: int | None
    """Bytes of a chip that the compiler hands out."""
    memory: dict[str, int]
    """Bytes of a chip by what they hold."""
    flops_per_step: float | None = None
    """Of the mathematics alone, on all chips together: nothing computed twice."""
    flops: dict[str, float] | None = None
    """The same by who counts: `executed` with what is computed twice, of that `kernels`; `compiled`, XLA's program with
    the kernels' added; `cost_analysis`, XLA's own figure of it, where the compiler gives one: element by element work
    too, loops once, no kernels."""
    bytes_moved_per_chip: float | None = None
    """Between chip and main memory."""
    collective_bytes: dict[str, dict[str, float]] | None = None
    """That a chip sends in a step, by network (ici, dcn) and kind."""
    step_seconds: dict[str, float] | None = None
    """By compute, memory, ici and dcn, each alone."""
    step_seconds_roofline: float | None = None
    mfu_bound: float | None = None
    limit: str | None = None
    """What takes the longest."""
    samples: int | None = None
    chip_hours: float | None = None
    """At least, for `samples` clips."""
    dollars: float | None = None
    trace_seconds: float
    compile_seconds: float
    notes: tuple[str, ...] = ()
    stages: "dict[str, Plan] | None" = None
    """Of sampling: the text encoder and the decoder, each the plan of one of `settings["runs"]` runs."""

    @property
    def seconds(self) -> float | None:
        """At least, for a batch: one training step, or all of sampling's steps with what comes before and after."""
        parts = [(self.settings.get("steps", 1), self.step_seconds_roofline)]
        parts += [(one.settings["runs"], one.step_seconds_roofline) for one in (self.stages or {}).values()]
        known = [runs * seconds for runs, seconds in parts if seconds is not None]
        return sum(known) if len(known) == len(parts) else None

    def record(self) -> dict[str, Any]:
        """The plan as JSON holds it, with the versions that made it."""
        return {
            **dataclasses.asdict(self),
            "seconds": self.seconds,
            "versions": {"jax": jax.__version__, "libtpu": _libtpu()},
        }


class OutOfMemory(Exception):
    """The compiler's own refusal: bytes needed and there are, on one device."""

    def __init__(self, needed: int, limit: int):
        super().__init__(f"needs {needed} of {limit}")
        self.needed, self.limit = needed, limit


def make_plan(
    work: Work,
    topology: Topology,
    name: str,
    *,
    samples: int | None = None,
    price: float | None = None,
    hlo: Path | None = None,
    whole: bool = True,
) -> Plan:
    """Compiles the experiment's own program for the topology and reads off what it would take.

    `hlo` is where the compiled program's text is written, for a closer look. Without `whole` a sampling experiment's
    steps alone are planned.

    Raises ValueError for a mesh that isn't the topology's, or a batch that the mesh doesn't divide.
    """
    mesh = make_mesh(mesh_of_work(work), devices_of(topology))
    memory = topology.generation.usable_memory if topology.generation else math.inf
    program = planned(work, mesh, memory)
    plan = dataclasses.replace(_plan_of(program, mesh, topology, name, hlo), samples=samples)
    if whole and isinstance(work, Sample):
        beside = {
            stage: _plan_of(other, mesh, topology, f"{name}: {other.settings['kind']}", None)
            for stage, other in stages(work, mesh, memory).items()
        }
        fits = False if any(one.fits is False for one in beside.values()) else plan.fits
        plan = dataclasses.replace(plan, stages=beside, fits=fits)
    if samples is None or plan.seconds is None:
        return plan
    hours, dollars = cost(topology, plan.seconds, program.examples, samples, price)
    return dataclasses.replace(plan, chip_hours=hours, dollars=dollars)


def _plan_of(program: Planned, mesh: Mesh, topology: Topology, name: str, hlo: Path | None) -> Plan:
    """The plan of one program, without its cost."""
    generation = topology.generation
    together = generation.chip.devices if generation else 1
    held = {part: together * _bytes(tree) for part, tree in program.parts.items()}
    start = time.perf_counter()
    traced = program.trace()
    lowered = traced.lower()
    trace_seconds, start = time.perf_counter() - start, time.perf_counter()
    about: dict[str, Any] = {
        "experiment": name,
        "topology": topology.name,
        "said": topology.said,
        "chips": topology.chips,
        "devices": topology.devices,
        "mesh": {axis: mesh.shape[axis] for axis in AXES},
        "settings": program.settings,
        "trace_seconds": trace_seconds,
    }
    limit = together * generation.usable_memory if generation else None
    try:
        compiled = _compile(lowered)
    except OutOfMemory as error:
        return Plan(
            **about,
            fits=False,
            hbm_bytes_per_chip=together * error.needed,
            hbm_limit_bytes=together * error.limit,
            memory=held,
            compile_seconds=time.perf_counter() - start,
        )
    compile_seconds = time.perf_counter() - start
    if hlo is not None:
        temporary = hlo.with_name(f".{hlo.name}.part")
        temporary.write_text(compiled.as_text(), encoding="utf-8")
        temporary.replace(hlo)
    memory = _memory(compiled.memory_analysis(), held, together)
    if program.beside:
        memory["other networks"] = together * _bytes(program.beside)
    total = sum(memory.values()) - memory["host"]
    figures = _figures(program, traced, compiled, list(mesh.devices.flat), topology)
    if memory["host"]:
        figures["notes"] += (
            "what waits in the host's memory goes there and back in a step, over a link whose speed isn't published: "
            "the bound leaves it out.",
        )
    return Plan(
        **about,
        **figures,
        fits=None if limit is None else total <= limit,
        hbm_bytes_per_chip=total,
        hbm_limit_bytes=None if limit is None else int(limit),
        memory=memory,
        compile_seconds=compile_seconds,
    )


def _figures(
    program: Planned, traced: Any, compiled: Any, devices: list, topology: Topology
) -> dict[str, Any]:
    """What one step computes, moves and sends, and the bound on its time."""
    turns, platform = program.turns, "tpu" if topology.generation else "cpu"
    text = parse_hlo(compiled.as_text())
    found = list(collectives(text, devices, topology))
    executed = work_of(traced.jaxpr.jaxpr, platform)
    useful = work_of(program.useful().jaxpr).flops / turns
    kernels = executed.kernel_flops / turns
    moved = (memory_bytes(text) + executed.kernel_bytes / topology.devices) / turns
    together = topology.generation.chip.devices if topology.generation else 1
    sent = {
        network: {kind: together * sent / turns for kind, sent in kinds.items()}
        for network, kinds in total_bytes(found).items()
    }
    figures: dict[str, Any] = {
        "flops_per_step": useful,
        "flops": {
            "executed": executed.flops / turns,
            "kernels": kernels,
            "compiled": product_flops(text) * topology.devices / turns + kernels,
            **_cost_analysis(compiled, topology),
        },
        "bytes_moved_per_chip": together * moved,
        "collective_bytes": sent,
    }
    notes = []
    if text.unknown_loops:
        notes.append(
            f"{len(text.unknown_loops)} loops of unknown length count as one turn: what they hold is too little."
        )
    if topology.generation is not None:
        bound = roofline(
            topology,
            useful_flops=useful,
            flops=max(executed.flops / turns, figures["flops"]["compiled"]),
            bytes_moved=moved,
            ici_seconds=sum(one.ici_seconds for one in found) / turns,
            dcn_seconds=sum(one.dcn_seconds for one in found) / turns,
            dtype=program.dtype,
        )
        figures |= {
            "step_seconds": {name: getattr(bound, name) for name in ("compute", "memory", "ici", "dcn")},
            "step_seconds_roofline": bound.seconds,
            "mfu_bound": bound.mfu,
            "limit": bound.limit,
        }
    return {**figures, "notes": tuple(notes)}


def _cost_analysis(compiled: Any, topology: Topology) -> dict[str, float]:
    flops = (compiled.cost_analysis() or {}).get("flops", 0)
    return {"cost_analysis": flops * topology.devices} if flops > 0 else {}


def _bytes(tree: Any) -> int:
    """Bytes of a tree of shapes on one device."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * _width(leaf.dtype)
        for leaf in jax.tree.leaves(tree)
    )


def _width(dtype: Any) -> int:
    if jnp.issubdtype(dtype, jax.dtypes.prng_key):
        return 8
    return np.dtype(dtype).itemsize


def _memory(analysis: Any, held: dict[str, int], together: int) -> dict[str, int]:
    """Bytes of a chip: what the arguments hold, as they are laid out, and what the program takes beside them."""
    arguments = together * analysis.argument_size_in_bytes
    return {
        **held,
        # TPUs lay arrays out in tiles: small ones take more than they hold.
        "layout": max(0, arguments - sum(held.values())),
        "results": together * (analysis.output_size_in_bytes - analysis.alias_size_in_bytes),
        "temporaries": together * analysis.temp_size_in_bytes,
        "code": together * analysis.generated_code_size_in_bytes,
        "host": together * (analysis.host_temp_size_in_bytes + analysis.host_argument_size_in_bytes),
    }


def _compile(lowered: Any) -> Any:
    try:
        return lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if refusal := out_of_memory(str(error)):
            raise refusal from error
        raise


def out_of_memory(message: str) -> OutOfMemory | None:
    """What a compiler's error says of memory; None if it is about something else."""
    found = next((match for pattern in REFUSALS if (match := pattern.search(message))), None)
    if not found:
        return None
    needed, limit = (int(float(found[i]) * UNITS[found[i + 1]]) for i in (1, 3))
    return OutOfMemory(needed, limit)


def _libtpu() -> str | None:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("libtpu")
    except PackageNotFoundError:
        return None
