"""The lowerings of attention and convolution against each other, in GFLOP/s, forward and with gradients.

Each is run until its share of the time is used up, and the fastest run counts: what disturbs a run only slows it.
FLOPs are counted of the mathematics, 2 a multiplication with its addition; gradients count twice the forward.
"""

import dataclasses
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.ops import attention as attention_ops
from sora_jax.ops import conv as conv_ops

__all__ = ["CASES", "Case", "Figure", "measure"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One computation in several lowerings; the first is what XLA does by itself."""

    name: str
    shapes: tuple[tuple[int, ...], ...]
    flops: float
    lowerings: dict[str, Callable[..., Any]]
    dtype: str = "float32"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """GFLOP/s of one lowering, and how many times as fast as the case's first it is."""

    case: str
    lowering: str
    forward: float
    gradients: float
    forward_ratio: float
    gradients_ratio: float


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


def _fastest(run: Callable[..., Any], inputs: tuple[jax.Array, ...], seconds: float) -> float:
    """Seconds of the fastest of at least three runs."""
    jax.block_until_ready(run(*inputs))  # compiles
    best, end = float("inf"), time.perf_counter() + seconds
    done = 0
    while done < 3 or time.perf_counter() < end:
        began = time.perf_counter()
        jax.block_until_ready(run(*inputs))
        best = min(best, time.perf_counter() - began)
        done += 1
    return best


def _gradients(lowering: Callable[..., Any], inputs: tuple[jax.Array, ...]) -> Callable[..., Any]:
    """All inputs' gradients, for one gradient of the output: a mean would hand XLA constants to fold."""
    shape = jax.eval_shape(lowering, *inputs)
    upstream = jax.random.normal(jax.random.key(1), shape.shape, shape.dtype)
    pull = jax.jit(lambda upstream, *inputs: jax.vjp(lowering, *inputs)[1](upstream))
    return lambda *inputs: pull(upstream, *inputs)


def measure(cases: tuple[Case, ...] = CASES, seconds: float = 1.0) -> Iterator[Figure]:
    """The figures of each case's lowerings, as they are measured; `seconds` is the time for each one."""
    for case in cases:
        keys = jax.random.split(jax.random.key(0), len(case.shapes))
        inputs = tuple(
            jax.random.normal(key, shape, jnp.dtype(case.dtype))
            for key, shape in zip(keys, case.shapes, strict=True)
        )
        first: tuple[float, float] | None = None
        for name, lowering in case.lowerings.items():
            forward = case.flops / _fastest(jax.jit(lowering), inputs, seconds) / 1e9
            # The gradient program computes the forward pass too where it needs it; only the gradients count.
            gradients = 2 * case.flops / _fastest(_gradients(lowering, inputs), inputs, seconds) / 1e9
            first = first or (forward, gradients)
            yield Figure(
                case=case.name,
                lowering=name,
                forward=forward,
                gradients=gradients,
                forward_ratio=forward / first[0],
                gradients_ratio=gradients / first[1],
            )
