"""Floating-point operations of a traced function, counted from its jaxpr: products and convolutions, 2·m·n·k each.

Bodies of `scan` count as often as they run, which XLA's own cost analysis doesn't do; what `shard_map` lays on devices
counts on each of them; kernels written by hand count a body for each place of their grid.
"""

import dataclasses
import functools
import math
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program does on all its devices together."""

    flops: int = 0
    """Of everything, kernels included."""
    kernel_flops: int = 0
    """Of kernels written by hand."""
    kernel_bytes: int = 0
    """Bytes that those move between chip and main memory: a block for each time that the grid comes to another one."""

    def __add__(self, other: "Work") -> "Work":
        return Work(*(a + b for a, b in zip(_tuple(self), _tuple(other), strict=True)))

    def __mul__(self, times: int) -> "Work":
        return Work(*(a * times for a in _tuple(self)))


def _tuple(work: Work) -> tuple[int, int, int]:
    return work.flops, work.kernel_flops, work.kernel_bytes


def count_flops(function: Callable, *arguments: Any) -> int:
    """FLOPs of one call of `function` on arguments of these shapes; nothing is run.

    Of lowerings that differ by platform the one for any other counts, which does the mathematics and no more.
    """
    return work_of(jax.make_jaxpr(function)(*arguments).jaxpr).flops


def work_of(jaxpr: Any, platform: str | None = None) -> Work:
    """The work of a jaxpr as it is lowered for `platform` ("cpu", "cuda" or "tpu"), with what kernels compute twice."""
    return _Count(platform).of(jaxpr)


class _Count:
    def __init__(self, platform: str | None):
        self.platform = platform
        self.choices: dict[int, int] = {}
        """The branch taken of so many, where a platform decides."""

    def of(self, jaxpr: Any) -> Work:
        return sum((self.equation(equation) for equation in jaxpr.eqns), Work())

    def equation(self, equation: Any) -> Work:
        name, params = equation.primitive.name, equation.params
        if not equation.outvars:
            return (
                Work()
            )  # what rematerialisation leaves of a call whose results were kept; compilers drop it
        if name == "dot_general":
            (contracted, _), _ = params["dimension_numbers"]
            k = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
            return Work(2 * k * math.prod(equation.outvars[0].aval.shape))
        if name == "conv_general_dilated":
            kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"]
            taps = math.prod(kernel[i] for i in numbers.rhs_spec[2:]) * kernel[numbers.rhs_spec[1]]
            dilation = math.prod(params["lhs_dilation"])
            return Work(2 * taps * math.prod(equation.outvars[0].aval.shape) // dilation)
        if name == "platform_index":
            self.choices[len(params["platforms"])] = self.branch(params["platforms"])
            return Work()
        if name == "cond":
            # A backward pass gets the forward one's choice as a number: branches as many as a platform chose from.
            branches = params["branches"]
            return self.of(branches[self.choices.get(len(branches), -1)].jaxpr)
        if name == "pallas_call":
            return self.kernel(params)
        inner = sum((self.of(sub) for sub in _sub_jaxprs(params)), Work())
        if name == "shard_map":
            return inner * params["mesh"].size
        return inner * (params["length"] if name == "scan" else 1)

    def branch(self, platforms: tuple) -> int:
        named = (i for i, names in enumerate(platforms) if names and self.platform in names)
        return next(named, len(platforms) - 1)

    def kernel(self, params: dict) -> Work:
        mapping = params["grid_mapping"]
        flops = self.of(params["jaxpr"]).flops * math.prod(mapping.grid)
        moved = sum(_block_bytes(block, mapping.grid) for block in mapping.block_mappings)
        return Work(flops, flops, moved)


def _block_bytes(block: Any, grid: tuple) -> int:
    """Bytes of a kernel's argument moved: its block, each time that the innermost index it depends on changes."""
    entries = math.prod(getattr(size, "block_size", 1) for size in block.block_shape)
    places = block.index_map_jaxpr.jaxpr
    reached = {var for var in places.outvars if not hasattr(var, "val")}
    for equation in reversed(places.eqns):
        if reached & set(equation.outvars):
            reached |= {var for var in equation.invars if not hasattr(var, "val")}
    innermost = max((i for i, var in enumerate(places.invars[: len(grid)]) if var in reached), default=-1)
    return entries * block.array_aval.dtype.itemsize * math.prod(grid[: innermost + 1])


def _sub_jaxprs(params: dict) -> list:
    found = []
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                found.append(item)
    return found


def matmul_peak(size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of the fastest of some large float32 matrix products on the default device: a CPU's peak. The first call
    compiles."""
    a, product = _product(size)
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(product(a))
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


@functools.cache
def _product(size: int) -> tuple[jax.Array, Callable[[jax.Array], jax.Array]]:
    a = jax.device_put(np.random.default_rng(0).standard_normal((size, size), np.float32))
    product = jax.jit(lambda a: a @ a)
    jax.block_until_ready(product(a))
    return a, product
