"""How long calls take: warm-up, then repeats in turns, so that what else the machine does hits all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from sora_jax.evals.bench.record import Measure, Peak, Seconds
from sora_jax.train.flops import matmul_peak

__all__ = ["Compiled", "Effort", "compiled", "interleaved", "measured", "timed"]

MOST_REPEATS = 1000
BETWEEN_PEAKS = 0.5
"""Seconds of measuring after which a CPU's peak is measured again."""


class Effort(NamedTuple):
    """How hard to measure: at least so many repeats, and on until so many seconds are used up for each call."""

    repeats: int = 5
    seconds: float = 2.0
    warmup: int = 1

    def checked(self) -> "Effort":
        """Itself. ValueError for numbers that give no measurement."""
        if not 1 <= self.repeats <= MOST_REPEATS:
            raise ValueError(f"repeats is {self.repeats} and must be from 1 to {MOST_REPEATS}.")
        if not 0 <= self.seconds <= 3600:
            raise ValueError(f"seconds is {self.seconds:g} and must be from 0 to 3600.")
        if not 0 <= self.warmup <= MOST_REPEATS:
            raise ValueError(f"warmup is {self.warmup} and must be from 0 to {MOST_REPEATS}.")
        return self


def interleaved(
    runs: Mapping[str, Callable[[], Any]], effort: Effort, *, peak: bool = False
) -> dict[str, Seconds]:
    """The times of each call. Results that are JAX arrays are waited for.

    peak: whether on a CPU its peak is measured in turns with them, at most every half a second.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    peaks, since = [], 0.0
    peak = peak and jax.default_backend() == "cpu"
    for number in range(-effort.warmup, MOST_REPEATS):
        if number >= effort.repeats and all(sum(taken) >= effort.seconds for taken in times.values()):
            break
        if peak and number >= 0 and (not peaks or since >= BETWEEN_PEAKS):
            peaks.append(matmul_peak(repeats=3))
            since = 0.0
        for name, run in runs.items():
            began = time.perf_counter()
            jax.block_until_ready(run())
            taken = time.perf_counter() - began
            since += taken
            if number >= 0:
                times[name].append(taken)
    cpu_peak = float(np.median(peaks)) if peak else None
    return {name: _spread(taken, cpu_peak) for name, taken in times.items()}


def timed(run: Callable[[], Any], effort: Effort, *, peak: bool = False) -> Seconds:
    """The times of one call."""
    return interleaved({"": run}, effort, peak=peak)[""]


def _spread(taken: list[float], cpu_peak: float | None) -> Seconds:
    lower, median, upper = (float(q) for q in np.quantile(taken, (0.25, 0.5, 0.75)))
    return Seconds(
        median=median, lower=lower, upper=upper, least=min(taken), repeats=len(taken), cpu_peak=cpu_peak
    )


class Compiled(NamedTuple):
    """A program and what it took to make: `call` runs it."""

    call: Any
    seconds: float
    memory_bytes: int | None


def compiled(jitted: Any, *arguments: Any) -> Compiled:
    """What `jax.jit` gave, compiled for arguments of these shapes. A program that is on disk already is read from
    there in less time: switch JAX's compilation cache off to know."""
    began = time.perf_counter()
    program = jitted.lower(*arguments).compile()
    seconds = time.perf_counter() - began
    memory: Any = program.memory_analysis()
    total = None
    if memory is not None:
        total = int(
            memory.argument_size_in_bytes
            + memory.output_size_in_bytes
            + memory.temp_size_in_bytes
            - memory.alias_size_in_bytes
        )
    return Compiled(program, seconds, total)


def measured(
    name: str,
    variant: str = "",
    *,
    seconds: Seconds,
    each: Mapping[str, float] | None = None,
    flops: float | None = None,
    peak: Peak | None = None,
    devices: int = 1,
    program: Compiled | None = None,
    figures: Mapping[str, Any] | None = None,
) -> Measure:
    """A measure of one call that goes through `each` (so many tokens, frames, ...) with `flops` operations."""
    rate = flops / seconds.median if flops else None
    most = seconds.cpu_peak or (peak and peak.flops_per_second * devices)
    return Measure(
        name=name,
        variant=variant,
        seconds=seconds,
        per_second={what: count / seconds.median for what, count in (each or {}).items()},
        flops=None if flops is None else float(flops),
        flops_per_second=rate,
        share_of_peak=rate / most if rate and most else None,
        compile_seconds=program and program.seconds,
        memory_bytes=program and program.memory_bytes,
        figures=dict(figures or {}),
    )
