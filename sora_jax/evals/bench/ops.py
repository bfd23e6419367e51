"""The lowerings of attention and convolution against each other, forward and gradients.

FLOPs are counted of the mathematics, 2 a multiplication with its addition; gradients count twice the forward.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.evals.bench.record import Measure, Peak
from sora_jax.evals.bench.timing import Effort, compiled, interleaved, measured
from sora_jax.ops import attention as attention_ops
from sora_jax.ops import conv as conv_ops

__all__ = ["CASES", "Case", "measure"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One computation in several lowerings; the first is what XLA does by itself."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    flops: float
    lowerings: dict[str, Callable[..., Any]]
    dtype: str = "float32"


def _matmul(n: int, dtype: str) -> Case:
    flops = 2.0 * n**3
    return Case(
        name=f"matmul {n}, {dtype}",
        shapes=((n, n), (n, n)),
        flops=flops,
        lowerings={"native": lambda a, b: a @ b},
        dtype=dtype,
    )


def _attention(b: int, n: int, heads: int, width: int) -> Case:
    scale = width**-0.5
    return Case(
        name=f"attention {b} x {n} tokens, {heads} heads of {width}",
        shapes=((b, n, heads, width),) * 3,
        flops=4.0 * b * heads * n * n * width,
        lowerings={
            "native": lambda q, k, v: attention_ops.xla(q, k, v, scale=scale),
            "heads first": lambda q, k, v: attention_ops.heads_first(q, k, v, scale=scale),
            "as used here": attention_ops.attention,
        },
    )


def _conv(b: int, t: int, side: int, channels: int) -> Case:
    return Case(
        name=f"convolution 3x3x3, {b} x {t} x {side} x {side}, {channels} channels",
        shapes=((b, t + 2, side, side, channels), (3, 3, 3, channels, channels)),
        flops=2.0 * b * t * side * side * 27 * channels**2,
        lowerings={
            "native": conv_ops.native,
            "plain taps": conv_ops.plain_taps,
            "taps": conv_ops.taps,
            "patches": conv_ops.patches,
            "as used here": conv_ops.conv3d,
        },
    )


CASES = (
    _matmul(2048, "float32"),
    _matmul(2048, "bfloat16"),
    _attention(1, 1024, 8, 64),
    _attention(32, 80, 4, 64),
    _conv(1, 8, 64, 16),
    _conv(1, 8, 64, 64),
    _conv(1, 8, 32, 192),
    _conv(8, 5, 8, 128),
    _conv(16, 9, 8, 32),
    _conv(16, 3, 2, 64),
)


def _called(lowering: Callable[..., Any], inputs: tuple[jax.Array, ...], part: str) -> tuple[Any, ...]:
    """The jitted function and its arguments. Gradients are all inputs', for one gradient of the output: a mean would
    hand XLA constants to fold."""
    if part == "forward":
        return jax.jit(lowering), *inputs
    shape = jax.eval_shape(lowering, *inputs)
    upstream = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
    return jax.jit(lambda upstream, *inputs: jax.vjp(lowering, *inputs)[1](upstream)), upstream, *inputs


def measure(
    cases: tuple[Case, ...] = CASES, *, effort: Effort, peak: Peak | None = None
) -> Iterator[Measure]:
    """Each case's lowerings, forward and then gradients, the lowerings in turns."""
    for case in cases:
        keys = jax.random.split(jax.random.key(0), len(case.shapes))
        inputs = tuple(
            jax.random.normal(key, shape, jnp.dtype(case.dtype))
            for key, shape in zip(keys, case.shapes, strict=True)
        )
        # The gradient program computes the forward pass too where it needs it; only the gradients count.
        for part, flops in (("forward", case.flops), ("gradients", 2 * case.flops)):
            called = {name: _called(lowering, inputs, part) for name, lowering in case.lowerings.items()}
            programs = {name: compiled(*call) for name, call in called.items()}
            runs = {name: functools.partial(programs[name].call, *called[name][1:]) for name in called}
            times = interleaved(runs, effort, peak=case.dtype == "float32")
            first = next(iter(times.values())).median
            for name, seconds in times.items():
                yield measured(
                    f"{case.name}, {part}",
                    name,
                    seconds=seconds,
                    flops=flops,
                    peak=peak if peak and peak.dtype == case.dtype else None,
                    program=programs[name],
                    figures={"times_as_fast": first / seconds.median},
                )
