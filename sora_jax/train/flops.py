"""Floating-point operations of a traced function, counted from its jaxpr: products and convolutions, 2·m·n·k each.

Bodies of `scan` count as often as they run, which XLA's own cost analysis doesn't do.
"""

import math
from collections.abc import Callable
from typing import Any

import jax
import numpy as np


def count_flops(function: Callable, *arguments: Any) -> int:
    """FLOPs of one call of `function` on arguments of these shapes; nothing is run."""
    return _of(jax.make_jaxpr(function)(*arguments).jaxpr)


def _of(jaxpr) -> int:
    return sum(_equation(equation) for equation in jaxpr.eqns)


def _equation(equation) -> int:
    name, params = equation.primitive.name, equation.params
    if name == "dot_general":
        (contracted, _), _ = params["dimension_numbers"]
        k = math.prod(equation.invars[0].aval.shape[i] for i in contracted)
        return 2 * k * math.prod(equation.outvars[0].aval.shape)
    if name == "conv_general_dilated":
        kernel, numbers = equation.invars[1].aval.shape, params["dimension_numbers"]
        taps = math.prod(kernel[i] for i in numbers.rhs_spec[2:]) * kernel[numbers.rhs_spec[1]]
        dilation = math.prod(params["lhs_dilation"])
        return 2 * taps * math.prod(equation.outvars[0].aval.shape) // dilation
    if name == "platform_index":
        return 0
    inner = [_of(sub) for sub in _sub_jaxprs(params)]
    if name == "cond":
        return inner[-1] if inner else 0
    return sum(inner) * (params["length"] if name == "scan" else 1)


def _sub_jaxprs(params: dict) -> list:
    found = []
    for value in params.values():
        for item in value if isinstance(value, (tuple, list)) else (value,):
            item = getattr(item, "jaxpr", item)
            if hasattr(item, "eqns"):
                found.append(item)
    return found


def matmul_peak(size: int = 2048, repeats: int = 5) -> float:
    """FLOP/s of a large float32 matrix product on the default device: the peak to compare a step with on a CPU."""
    import time

    a = jax.device_put(np.random.default_rng(0).standard_normal((size, size), np.float32))
    product = jax.jit(lambda a: a @ a)
    product(a).block_until_ready()
    best = math.inf
    for _ in range(repeats):
        start = time.perf_counter()
        product(a).block_until_ready()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best
