"""Matrix products that keep to JAX's matmul precision on a CPU too.

Within `jax.default_matmul_precision("bfloat16")`, or with JAX_DEFAULT_MATMUL_PRECISION=bfloat16 around a command, the
operands of a float32 product are rounded to bfloat16 and summed in float32: what TPUs do by default. XLA's CPU
backend takes no notice of it, so it is written out here, backwards as well, where it also halves what is kept for the
backward pass. On processors with AMX training is faster so (docs/bench.md).
"""

import functools

import jax
import jax.numpy as jnp

from sora_jax.ops.layout import is_cut
from sora_jax.typing import Array


def matmul(x: Array, kernel: Array) -> Array:
    """[..., i] times [i, o], in their dtype."""
    if _rounds(x):
        rows = "abcdefgh"[: x.ndim - 1]
        return _rounded(f"{rows}i,io->{rows}o", x, kernel)
    if is_cut():
        return x @ kernel
    # One matrix of all rows, as far as none need be sent for it: XLA's CPU backend would transpose more axes than two.
    return (x.reshape(-1, x.shape[-1]) @ kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def batch_matmul(subscripts: str, a: Array, b: Array) -> Array:
    """`jnp.einsum` of two operands of one dtype; the sum, and so the result, is in float32.

    Each index is in two of the three at least: so the gradients are such products too.
    """
    return (_rounded if _rounds(a) else _product)(subscripts, a, b)


def _rounds(a: Array) -> bool:
    precision = jax.config.jax_default_matmul_precision  # pyright: ignore[reportAttributeAccessIssue]
    return a.dtype == jnp.float32 and precision == "bfloat16"


def _product(subscripts: str, a: Array, b: Array) -> Array:
    return jnp.einsum(subscripts, a, b, preferred_element_type=jnp.float32)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _rounded(subscripts: str, a: Array, b: Array) -> Array:
    return _forward(subscripts, a, b)[0]


def _forward(subscripts, a, b):
    a, b = a.astype(jnp.bfloat16), b.astype(jnp.bfloat16)
    return _product(subscripts, a, b), (a, b)


def _backward(subscripts, operands, g):
    a, b = operands
    g = g.astype(jnp.bfloat16)
    inputs, out = subscripts.split("->")
    left, right = inputs.split(",")
    return _product(f"{out},{right}->{left}", g, b), _product(f"{left},{out}->{right}", a, g)


_rounded.defvjp(_forward, _backward)
