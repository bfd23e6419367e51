"""What a benchmark leaves behind: one JSON record of what ran, on what, and how fast. docs/bench.md has the schema."""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from sora_jax.models.fields import parse
from sora_jax.weights.tensors import write_files

__all__ = ["SCHEMA", "Machine", "Measure", "Peak", "Record", "Seconds", "read", "to_json", "write"]

SCHEMA = 1
LIMIT = 16 * 2**20
"""Bytes of the largest record that is read; one has some ten thousand."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Seconds:
    """How long one call took, over all repeats after the warm-up: median, quartiles and the least."""

    median: float
    lower: float
    """The first quartile: a quarter of the repeats were faster."""
    upper: float
    """The third quartile."""
    least: float
    repeats: int
    cpu_peak: float | None = None
    """Of a CPU: FLOP/s of products of 2048 x 2048 float32 matrices in turns with the repeats; the median."""

    def __post_init__(self):
        if not 0 < self.least <= self.lower <= self.median <= self.upper < math.inf or self.repeats < 1:
            raise ValueError(
                f"times {self.least:g}, {self.lower:g}, {self.median:g}, {self.upper:g} of "
                f"{self.repeats} repeats: least, quartile, median and quartile must be above 0 and in this order."
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Measure:
    """One thing measured. `name` says what, `variant` how: measures of one name are alternatives of each other."""

    name: str
    variant: str = ""
    seconds: Seconds | None = None
    """Of one call; None where nothing was timed."""
    per_second: dict[str, float] = dataclasses.field(default_factory=dict)
    """At the median: tokens, frames, examples, ... a second."""
    flops: float | None = None
    """Floating-point operations of one call, counted of the mathematics: 2 a multiplication with its addition, nothing
    that is computed again."""
    flops_per_second: float | None = None
    share_of_peak: float | None = None
    """Of all devices' peak, or on a CPU of the `cpu_peak` beside it; of the products in another dtype there is none."""
    compile_seconds: float | None = None
    memory_bytes: int | None = None
    """Of the compiled program on one device: arguments, results and temporaries, shared ones once."""
    figures: dict[str, float | tuple[float, ...] | None] = dataclasses.field(default_factory=dict)
    """Whatever else there is to say in numbers; None is infinite."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Peak:
    """FLOP/s that one device reaches at most in `dtype`, and where the number is from."""

    flops_per_second: float
    dtype: str
    source: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class Machine:
    """Where it ran."""

    platform: str
    """cpu, gpu or tpu."""
    device_kind: str
    devices: int
    processes: int
    device_memory_bytes: int | None = None
    driver: str | None = None
    """Of the device, or the runtime's version where JAX tells one."""
    host_cpu: str
    host_cores: int
    host_memory_bytes: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Record:
    """One run of one benchmark."""

    schema: int = SCHEMA
    bench: str
    settings: dict[str, Any]
    """What it was asked for, every option."""
    measures: tuple[Measure, ...]
    peak: Peak | None = None
    """Of a CPU, whose speed moves, the fastest of the measures' own."""
    peak_memory_bytes: int | None = None
    """The most that one device had in use during the process; of a CPU, that the process had in memory."""
    machine: Machine
    mesh: dict[str, int] = dataclasses.field(default_factory=dict)
    """Devices along each axis of the mesh; empty for one device."""
    versions: dict[str, str]
    flags: dict[str, str] = dataclasses.field(default_factory=dict)
    """Settings of XLA and the allocator in the environment."""
    commit: str | None = None
    """Of the source, with a + where files were changed since; None for an installed package."""
    date: str
    """UTC, ISO 8601."""

    def __post_init__(self):
        if self.schema != SCHEMA:
            raise ValueError(f"schema is {self.schema} and this version reads {SCHEMA}: measure again.")
        if not self.measures:
            raise ValueError("measures is empty: a record holds at least one.")


def _finite(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(name): _finite(value) for name, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_finite(value) for value in tree]
    return None if isinstance(tree, float) and not math.isfinite(tree) else tree


def to_json(record: Record) -> str:
    """The record as JSON text; a number that isn't finite is null."""
    tree = _finite(dataclasses.asdict(record))
    return json.dumps(tree, indent=2, ensure_ascii=False, allow_nan=False, default=str) + "\n"


def write(path: Path, record: Record) -> Path:
    """Writes the record, whole or not at all, and returns its path."""
    path = path.absolute()
    write_files(path.parent, {path.name: lambda temporary: temporary.write_text(to_json(record), "utf-8")})
    return path


def read(path: Path) -> Record:
    """The record in a file. Raises ValueError naming the file and what is wrong with it."""
    if not path.is_file():
        raise ValueError(f"there is no record {path}: make one with sora-jax bench ... --out {path}.")
    if path.stat().st_size > LIMIT:
        raise ValueError(f"{path} has over {LIMIT // 2**20} MB, more than any record: name another file.")
    try:
        return parse(Record, path.read_text("utf-8"), "record")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
