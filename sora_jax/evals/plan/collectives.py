"""The collectives of a compiled program: what each device sends, over which network, and how long that takes at least.

Of an operand of m bytes on each of g devices, a device sends
    all-gather (g-1)·m,   reduce-scatter and all-to-all (g-1)/g·m,   all-reduce 2·(g-1)/g·m,   collective-permute m,
the least that any algorithm sends. Where a group lies in S slices, the slices first work within, and then exchange each
device's share over the data centre's network.
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class Collective:
    """One collective of the program, `runs` times."""

    kind: str
    runs: float
    ici_bytes: float
    """Bytes that a device sends within its slice, in all runs."""
    dcn_bytes: float
    """Bytes that a device sends to other slices, in all runs."""
    ici_seconds: float
    dcn_seconds: float


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
    for name, runs in program.runs.items():
        computation = program.computations[name]
        for instruction in computation.values():
            kind = instruction.kind.removesuffix("-start")
            if kind not in KINDS:
                continue
            if kind == "all-reduce" and "all-reduce-scatter" in name:
                kind = "reduce-scatter"  # TPU's compiler keeps it as an all-reduce and a slice, fused
            operand = sum(array.bytes for array in _operands(computation, instruction))
            groups = groups_of(instruction.attributes) or [list(range(len(places)))]
            yield _costs(kind, runs, operand, groups, places, topology)


def _operands(computation: dict[str, Instruction], instruction: Instruction) -> list[Array]:
    known = [computation[name] for name in instruction.operands if name in computation]
    return [array for one in known for array in one.arrays]


def _place(device: Any, topology: Topology) -> tuple[int, ...]:
    """(slice, coordinates of the chip)."""
    if topology.generation is None:
        return 0, device.id
    return getattr(device, "slice_index", None) or 0, *device.coords[: len(topology.shape)]


def _costs(kind, runs, operand, groups, places, topology) -> Collective:
    if kind == "collective-permute":
        return _permute(runs, operand, groups, places, topology)
    slices = {place[0] for place in (places[i] for i in groups[0])}
    outer, inner = len(slices), len(groups[0]) // len(slices)
    # In a slice first; then each device holds its share of what the slices exchange.
    inside = _sent(kind, operand * (outer if kind == "all-gather" else 1), inner)
    share = operand if kind in ("all-gather", "all-to-all") else operand / inner
    across = _sent(kind, share, outer)
    seconds = across_seconds = 0.0
    if generation := topology.generation:
        together = generation.chip.devices
        if bandwidth := _bandwidth([places[i] for i in groups[0]], topology):
            seconds = inside * together / bandwidth
        across_seconds = across * together / generation.data_centre_bandwidth
    return Collective(
        kind=kind,
        runs=runs,
        ici_bytes=runs * inside,
        dcn_bytes=runs * across,
        ici_seconds=runs * seconds,
        dcn_seconds=runs * across_seconds,
    )


def _sent(kind: str, operand: float, g: int) -> float:
    return (
        operand
        * {
            "all-gather": g - 1,
            "reduce-scatter": (g - 1) / g,
            "all-to-all": (g - 1) / g,
            "all-reduce": 2 * (g - 1) / g,
        }[kind]
    )


def _bandwidth(group: list[tuple[int, ...]], topology: Topology) -> float:
    """Bytes a second that a chip sends to the others of its group: over both links of each side along which the group
    reaches, or one where the side is no ring. 0 for a group within a chip."""
    assert topology.generation
    links = 0
    for side, extent in enumerate(topology.shape, start=1):
        if len({place[side] for place in group if place[0] == group[0][0]}) > 1:
            links += 2 if topology.generation.wraps(extent) else 1
    return links * topology.generation.link_bandwidth


def _permute(runs, operand, pairs, places, topology) -> Collective:
    """Each device sends to one other, over one link."""
    moved = [(places[a], places[b]) for a, b in pairs if places[a] != places[b]]
    crossing = any(a[0] != b[0] for a, b in moved)
    inside = operand if any(a[0] == b[0] for a, b in moved) else 0
    across = operand if crossing else 0
    generation = topology.generation
    together = generation.chip.devices if generation else 0
    return Collective(
        kind="collective-permute",
        runs=runs,
        ici_bytes=runs * inside,
        dcn_bytes=runs * across,
        ici_seconds=runs * inside * together / generation.link_bandwidth if generation else 0.0,
        dcn_seconds=runs * across * together / generation.data_centre_bandwidth if generation else 0.0,
    )


def total_bytes(found: Sequence[Collective]) -> dict[str, dict[str, float]]:
    """Bytes that a device sends in a step, by network and kind."""
    return {
        "ici": {kind: sum(one.ici_bytes for one in found if one.kind == kind) for kind in KINDS},
        "dcn": {kind: sum(one.dcn_bytes for one in found if one.kind == kind) for kind in KINDS},
    }
