"""The collectives of a compiled program: what each device sends, over which network, and how long that takes at least.

Of an operand of m bytes on each of g devices, a device sends
    all-gather (g-1)·m,   reduce-scatter and all-to-all (g-1)/g·m,   all-reduce 2·(g-1)/g·m,   collective-permute m,
the least that any algorithm sends. Across slices TPU's compiler hands arrays to the hosts, which exchange them over the
data centre's network: a `send` that names its transfer, of g slices.
"""

import dataclasses
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sora_jax.evals.plan.hlo import Array, Instruction, Program
from sora_jax.evals.plan.topology import Topology

__all__ = ["KINDS", "Collective", "collectives", "groups_of", "total_bytes"]

KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute")
TRANSFER = re.compile(r'_xla_megascale_transfer_type="(\w+)"')
TRANSFERS = {
    "ALL_GATHER": "all-gather",
    "REDUCE_SCATTER": "reduce-scatter",
    "ALL_REDUCE": "all-reduce",
    "ALL_TO_ALL": "all-to-all",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the program, `runs` times."""

    kind: str
    runs: float
    ici_bytes: float = 0.0
    """Bytes that a device sends within its slice, in all runs."""
    dcn_bytes: float = 0.0
    """Bytes that a device sends to other slices, in all runs."""
    ici_seconds: float = 0.0
    dcn_seconds: float = 0.0


def groups_of(attributes: str) -> list[list[int]]:
    """The groups of devices of a collective, in the three ways that HLO writes them; for a permute, the pairs.

    `{{0,1},{2,3}}`, `[2,2]<=[2,2]T(1,0)`, `mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}`. Empty: all together.
    """
    if found := re.search(r"(?:replica_groups|source_target_pairs)=\{\{(.*?)\}\}", attributes):
        return [[int(i) for i in group.split(",")] for group in found[1].split("},{")]
    if found := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", attributes):
        return _iota(found[2], found[3]).reshape(_numbers(found[1])).tolist()
    if found := re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}",
        attributes,
    ):
        axes = {name: int(size) for name, size in re.findall(r"'([^']+)'=(\d+)", found[1])}
        sizes = list(axes.values())
        ids = _iota(found[2], found[3]) if found[2] else np.arange(math.prod(sizes))
        return _along(ids.reshape(sizes), list(axes), found[4])
    return []


def _numbers(text: str) -> list[int]:
    return [int(number) for number in text.split(",")]


def _iota(sizes: str, order: str | None) -> np.ndarray:
    ids = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return ids.transpose(_numbers(order)) if order else ids


def _along(ids: np.ndarray, names: list[str], chosen: str) -> list[list[int]]:
    """Groups along the chosen axes; `'a':(2)4` is four of an axis, the ones after its first two."""
    for name, before, size in re.findall(r"'([^']+)':\((\d+)\)(\d+)", chosen):
        at = names.index(name)
        after = ids.shape[at] // (int(before) * int(size))
        ids = ids.reshape(*ids.shape[:at], int(before), int(size), after, *ids.shape[at + 1 :])
        names[at : at + 1] = [f"{name} before", f"{name} part", f"{name} after"]
        chosen = re.sub(rf"'{re.escape(name)}':\({before}\){size}", f"'{name} part'", chosen)
    inside = [names.index(name) for name in re.findall(r"'([^']+)'", chosen)]
    outside = [i for i in range(ids.ndim) if i not in inside]
    size = math.prod(ids.shape[i] for i in inside)
    return ids.transpose(*outside, *inside).reshape(-1, size).tolist()


def collectives(program: Program, devices: Sequence[Any], topology: Topology) -> Iterator[Collective]:
    """Every collective of the program, compiled for `devices` in the order of its mesh."""
    places = [_place(device, topology) for device in devices]
    fused, started = _fused(program)
    for name, runs in program.runs.items():
        computation = program.computations[name]
        starts = _starts(computation)
        for instruction in computation.values():
            operand = sum(array.bytes for array in _operands(computation, instruction))
            if transfer := TRANSFER.search(instruction.attributes):
                if instruction.kind == "send":
                    yield _between_slices(TRANSFERS.get(transfer[1], KINDS[-1]), runs, operand, topology)
                continue
            kind = instruction.kind.removesuffix("-start")
            if kind not in KINDS:
                continue
            if name in fused and not starts and (kind, _channel(instruction)) in started:
                continue  # the rest of one that another fusion has started
            if kind == "all-reduce" and "all-reduce-scatter" in name:
                kind = "reduce-scatter"  # TPU's compiler keeps it as an all-reduce and a slice, fused
            groups = groups_of(instruction.attributes) or [list(range(len(places) // topology.slices))]
            yield _within_slice(
                kind, runs, operand, [[places[i] for i in group] for group in groups], topology
            )


def _fused(program: Program) -> tuple[set[str], set[tuple[str, str]]]:
    """Computations that are fusions' bodies, and kind and channel of the collectives that one of them starts while
    others go on with it between their own work."""
    fused = {
        called
        for name in program.runs
        for instruction in program.computations[name].values()
        if instruction.kind == "fusion"
        for called, _ in program.calls(name, instruction)
    }
    started = {
        (instruction.kind, _channel(instruction))
        for name in fused
        if _starts(program.computations[name])
        for instruction in program.computations[name].values()
        if instruction.kind in KINDS
    }
    return fused, started


def _starts(computation: dict[str, Instruction]) -> bool:
    return any('"AsyncCollectiveStart"' in one.attributes for one in computation.values())


def _channel(instruction: Instruction) -> str:
    found = re.search(r"channel_id=(\d+)", instruction.attributes)
    return found[1] if found else ""


def _operands(computation: dict[str, Instruction], instruction: Instruction) -> list[Array]:
    known = [computation[name] for name in instruction.operands if name in computation]
    return [array for one in known for array in one.arrays]


Place = tuple[int, ...]
"""Slice, and coordinates of the chip in it."""


def _place(device: Any, topology: Topology) -> Place:
    if topology.generation is None:
        return 0, device.id
    return getattr(device, "slice_index", None) or 0, *device.coords[: len(topology.shape)]


def _sent(kind: str, operand: float, g: int) -> float:
    return (
        operand
        * {
            "all-gather": g - 1,
            "reduce-scatter": (g - 1) / g,
            "all-to-all": (g - 1) / g,
            "all-reduce": 2 * (g - 1) / g,
            "collective-permute": 1,
        }[kind]
    )


def _within_slice(
    kind: str, runs: float, operand: float, groups: list[list[Place]], topology: Topology
) -> Collective:
    """Groups are alike, so the first tells; of a permute, whose groups are pairs, one that moves anything."""
    if kind == "collective-permute":
        groups = [pair for pair in groups if pair[0] != pair[1]]
        sent, links = (operand, 1) if groups else (0.0, 1)
    else:
        sent, links = _sent(kind, operand, len(groups[0])), _links(groups[0], topology)
    seconds = 0.0
    if topology.generation and links:
        seconds = sent * topology.generation.chip.devices / (links * topology.generation.link_bandwidth)
    return Collective(kind=kind, runs=runs, ici_bytes=runs * sent, ici_seconds=runs * seconds)


def _links(group: list[Place], topology: Topology) -> int:
    """Links over which a chip sends to the others of its group: both of each side along which the group reaches, or one
    where the side is no ring. 0 for a group within a chip."""
    links = 0
    for side, extent in enumerate(topology.shape, start=1):
        if topology.generation and len({place[side] for place in group}) > 1:
            links += 2 if topology.generation.wraps(extent) else 1
    return links


def _between_slices(kind: str, runs: float, operand: float, topology: Topology) -> Collective:
    sent = _sent(kind, operand, topology.slices)
    seconds = 0.0
    if generation := topology.generation:
        seconds = sent * generation.chip.devices / generation.data_centre_bandwidth
    return Collective(kind=kind, runs=runs, dcn_bytes=runs * sent, dcn_seconds=runs * seconds)


def total_bytes(found: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """Bytes that a device sends in a step, by network and kind."""
    return {
        "ici": {kind: sum(one.ici_bytes for one in found if one.kind == kind) for kind in KINDS},
        "dcn": {kind: sum(one.dcn_bytes for one in found if one.kind == kind) for kind in KINDS},
    }
