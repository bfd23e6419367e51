"""A compiled program's text (XLA's HLO) as computations, and how often each of them runs.

XLA's own cost analysis counts the body of a loop once; here it counts as often as the loop turns, which is read from
the loop's condition: `while i < n`, with the i that it starts from.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

__all__ = ["Array", "Instruction", "Program", "parse_hlo"]

SIZES = {"pred": 1, "token": 0, "opaque": 0, "s4": 0.5, "u4": 0.5}
_ARRAY = re.compile(r"(\w+)\[([\d,<=]*)\](\{[^}]*\})?")
_HEADER = re.compile(r"^(ENTRY )?%?([\w.\-]+)(?: |\()")
_INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = ")
_NAME = re.compile(r"%([\w.\-]+)")
_CALLED = re.compile(r"(?:calls|body|to_apply|true_computation|false_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"branch_computations=\{([^}]*)\}")


@dataclasses.dataclass(frozen=True)
class Array:
    """One array: its element type, sizes, and the memory it lies in (0 is the device's main memory)."""

    kind: str
    sizes: tuple[int, ...]
    memory: int = 0

    @property
    def bytes(self) -> int:
        digits = re.search(r"\d+", self.kind)
        width = SIZES.get(self.kind, int(digits[0]) / 8 if digits else 4)
        return math.ceil(width * math.prod(self.sizes))


@dataclasses.dataclass(frozen=True)
class Instruction:
    name: str
    kind: str
    """As HLO calls it: fusion, all-gather-start, ..."""
    arrays: tuple[Array, ...]
    """What it gives; several of a tuple."""
    operands: tuple[str, ...]
    attributes: str
    text: str
    """What stands between its parentheses."""
    root: bool = False


@dataclasses.dataclass(frozen=True)
class Program:
    """Computations by name, each its instructions by name in order; `entry` is where it starts."""

    computations: dict[str, dict[str, Instruction]]
    entry: str

    @functools.cached_property
    def runs(self) -> dict[str, float]:
        """How often each computation runs in one run of the program. One that a reduction applies to each element, or
        that isn't called, is left out."""
        counts = dict.fromkeys(self.computations, 0.0)
        for name in _topological(self):
            counts[name] += name == self.entry
            for instruction in self.computations[name].values():
                for called, times in self.calls(name, instruction):
                    counts[called] += counts[name] * times
        return {name: count for name, count in counts.items() if count}

    @functools.cached_property
    def unknown_loops(self) -> tuple[str, ...]:
        """Loops whose number of turns isn't written in the program; their bodies count once."""
        return tuple(
            instruction.name
            for name in self.runs
            for instruction in self.computations[name].values()
            if instruction.kind == "while" and self.turns(name, instruction) is None
        )

    def calls(self, computation: str, instruction: Instruction) -> list[tuple[str, float]]:
        """The computations that an instruction runs, and how often. Of a conditional's branches each counts."""
        if instruction.kind == "while":
            body = re.search(r"body=%?([\w.\-]+)", instruction.attributes)
            assert body
            turns = self.turns(computation, instruction)
            return [(body[1], 1 if turns is None else turns)]
        if instruction.kind in ("fusion", "call", "conditional", "async-start"):
            names = _CALLED.findall(instruction.attributes)
            for branches in _BRANCHES.findall(instruction.attributes):
                names += [name.strip().lstrip("%") for name in branches.split(",")]
            return [(name, 1) for name in names if name in self.computations]
        return []

    def turns(self, computation: str, loop: Instruction) -> int | None:
        """How often the loop's body runs; None if that can't be read."""
        if known := re.search(r'known_trip_count\\?"?:\s*\{\\?"?n\\?"?:\s*\\?"?(\d+)', loop.attributes):
            return int(known[1])
        condition = re.search(r"condition=%?([\w.\-]+)", loop.attributes)
        inside = self.computations.get(condition[1], {}) if condition else {}
        root = next((one for one in inside.values() if one.root), None)
        if root is not None and root.kind == "fusion":
            # The comparison of two scalars may be fused: its operands are the same.
            fused = self.computations.get(next(iter(_CALLED.findall(root.attributes)), ""), {})
            direction = next((one.attributes for one in fused.values() if one.root), "")
        else:
            direction = root.attributes if root is not None and root.kind == "compare" else ""
        if root is None or "direction=LT" not in direction or len(root.operands) != 2:
            return None
        first, last = (self._number(computation, loop, inside.get(name)) for name in root.operands)
        return None if first is None or last is None else max(0, last - first)

    def _number(self, computation: str, loop: Instruction, found: Instruction | None) -> int | None:
        """What a scalar of a loop's condition is when the loop starts."""
        for _ in range(16):
            if found is None:
                return None
            if found.kind == "constant":
                return int(found.text) if re.fullmatch(r"-?\d+", found.text) else None
            outside = self.computations[computation]
            if found.kind == "get-tuple-element" and (index := re.search(r"index=(\d+)", found.attributes)):
                start = outside.get(loop.operands[0])
                if start is None or start.kind != "tuple":
                    return None
                found = outside.get(start.operands[int(index[1])])
            elif found.kind in ("copy", "bitcast", "copy-done", "copy-start") and found.operands:
                found = outside.get(found.operands[0])
            else:
                return None
        return None


def _topological(program: Program) -> list[str]:
    """Computations, each before those that it calls."""
    order: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        if name in done:
            return
        done.add(name)
        for instruction in program.computations[name].values():
            for called, _ in program.calls(name, instruction):
                visit(called)
        order.append(name)

    visit(program.entry)
    return order[::-1]


def parse_hlo(text: str) -> Program:
    """The program of `compiled.as_text()`. Raises ValueError if there is none in it."""
    computations: dict[str, dict[str, Instruction]] = {}
    entry, current = "", None
    for line in _lines(text):
        if current is None:
            if line.endswith("{") and " -> " in line and (header := _HEADER.match(line)):
                current = computations.setdefault(header[2], {})
                entry = header[2] if header[1] else entry
        elif line == "}":
            current = None
        elif found := _INSTRUCTION.match(line):
            instruction = _instruction(found[2], line[found.end() :], bool(found[1]))
            current[instruction.name] = instruction
    if not entry:
        raise ValueError("the text is no compiled program: it has no ENTRY computation.")
    return Program(computations, entry)


def _lines(text: str) -> Iterator[str]:
    """The text's lines, each with those that go on with it: notes on kernels are written over several."""
    inside, whole = False, ""
    for line in text.splitlines():
        if inside and line != "}" and not line.startswith(" "):
            whole += line
            continue
        if whole:
            yield whole
        whole = line
        inside = line != "}" and (inside or (line.endswith("{") and " -> " in line))
    yield whole


def _instruction(name: str, rest: str, root: bool) -> Instruction:
    shape_end = _closing(rest, 0) + 1 if rest.startswith("(") else rest.index(" ")
    opening = rest.index("(", shape_end)
    closing = _closing(rest, opening)
    inner = rest[opening + 1 : closing]
    return Instruction(
        name=name,
        kind=rest[shape_end:opening].strip(),
        arrays=_arrays(rest[:shape_end]),
        operands=tuple(_NAME.findall(inner)),
        attributes=rest[closing + 1 :],
        text=inner,
        root=root,
    )


def _closing(text: str, opening: int) -> int:
    depth = 0
    for i in range(opening, len(text)):
        depth += (text[i] == "(") - (text[i] == ")")
        if depth == 0:
            return i
    raise ValueError(f"a parenthesis of the program isn't closed: {text[:80]}...")


def _arrays(text: str) -> tuple[Array, ...]:
    found = []
    for kind, sizes, layout in _ARRAY.findall(text):
        memory = re.search(r"S\((\d+)\)", layout)
        entries = tuple(int(size.lstrip("<=")) for size in sizes.split(",") if size)
        found.append(Array(kind, entries, int(memory[1]) if memory else 0))
    return tuple(found)
