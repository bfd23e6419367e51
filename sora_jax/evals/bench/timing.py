"""How long calls take: warm-up, then repeats in turns, so that what else the machine does hits all of them alike."""

import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import numpy as np

from sora_jax.evals.bench.record import Measure, Peak, Seconds
from sora_jax.train.flops import large_product

__all__ = ["Compiled", "Effort", "compiled", "interleaved", "measured", "timed"]

MOST_REPEATS = 1000


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
    runs: Mapping[str, Callable[[], Any]], effort: Effort, *, product: bool = False
) -> dict[str, Seconds]:
    """The times of each call. Results that are JAX arrays are waited for.

    product: whether on a CPU each round begins with a large matrix product, the CPU's peak at that time.
    """
    times: dict[str, list[float]] = {name: [] for name in runs}
    products: list[float] = []
    beside = large_product() if product and jax.default_backend() == "cpu" else None
    for number in range(-effort.warmup, MOST_REPEATS):
        if number >= effort.repeats and all(sum(taken) >= effort.seconds for taken in times.values()):
            break
        if beside and number >= 0:
            products.append(_seconds_of(beside[0]))
        for name, run in runs.items():
            taken = _seconds_of(run)
            if number >= 0:
                times[name].append(taken)
    peak = beside[1] / float(np.median(products)) if beside else None
    return {name: _spread(taken, peak) for name, taken in times.items()}


def timed(run: Callable[[], Any], effort: Effort, *, product: bool = False) -> Seconds:
    """The times of one call."""
    return interleaved({"": run}, effort, product=product)[""]


def _seconds_of(run: Callable[[], Any]) -> float:
    began = time.perf_counter()
    jax.block_until_ready(run())
    return time.perf_counter() - began


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
