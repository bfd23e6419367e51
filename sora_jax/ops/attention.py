"""Attention (arXiv 1706.03762): o = softmax(s·q kᵀ + bias) v, with the softmax in float32.

What is fast differs by platform, so the lowering is chosen when the program is compiled for one: heads-first
batched matrix products on CPU (`sora-jax bench ops` has the figures), cuDNN's fused kernel on GPU in half
precision, the splash kernel on TPU, XLA's fusion elsewhere.
"""

import contextlib
import contextvars
import functools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from sora_jax.ops.attention_heads import heads_first
from sora_jax.ops.attention_splash import splash, splash_fits
from sora_jax.typing import Array, Bool, Float, Int, typed

# A finite stand-in for -inf: with -inf a row without any key would give NaN.
MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)

Segments = tuple[Int[Array, "b n"], Int[Array, "b s"]]


@typed
def attention(
    q: Float[Array, "b n k e"],
    k: Float[Array, "b s k e"],
    v: Float[Array, "b s k e"],
    mask: Bool[Array, "b s"] | None = None,
    bias: Float[Array, "#b #k #n s"] | None = None,
    scale: float | None = None,
    segments: Segments | None = None,
) -> Float[Array, "b n k e"]:
    """Attends from n queries to s keys, in k heads of e entries.

    Args:
        mask: which keys there are; a query without any key gets zeros.
        bias: added to the scaled logits.
        scale: s; default 1/√e.
        segments: a number for each query and one for each key; only equal ones meet (sequences packed in one).
    """
    s = float(q.shape[-1] ** -0.5 if scale is None else scale)
    if segments is not None and mask is not None:
        # A key that there is not is in a segment of no query; segments count from 0, or -1 for padding.
        segments, mask = (segments[0], jnp.where(mask, segments[1], -2)), None

    def dense(lowering):
        def run(q, k, v, bias, mask, segments):
            return lowering(q, k, v, _with_hidden(bias, mask, segments), scale=s)

        return run

    # The kernel is no program that XLA could cut over devices by itself: on several, `spread_by` brings it in.
    inside, spread = _inside_shard_map(), _spread.get()
    if spread is not None and spread.cross is not None and bias is None and not inside:
        return spread.cross(q, k, v, mask, segments, s)
    alone = inside or (spread is None and jax.device_count() == 1)
    kernel = alone and bias is None and splash_fits(q.shape[1], k.shape[1])
    out = lax.platform_dependent(
        *(q, k, v, bias, mask, segments),
        cpu=dense(functools.partial(heads_first, turns=alone)),
        cuda=dense(cudnn_or_xla),
        tpu=(lambda q, k, v, bias, mask, segments: splash(q, k, v, _as_segments(q, mask, segments), scale=s))
        if kernel
        else dense(xla),
        default=dense(xla),
    )
    if mask is not None:
        out = jnp.where(mask.any(axis=-1).reshape(-1, 1, 1, 1), out, jnp.zeros((), out.dtype))
    if segments is not None:
        meets = _meet(segments).any(axis=-1)[:, :, None, None]
        out = jnp.where(meets, out, jnp.zeros((), out.dtype))
    return out


def _meet(segments):
    return segments[0][:, :, None] == segments[1][:, None, :]


def _with_hidden(bias, mask, segments):
    """The bias [#b, #k, #n, s] that also hides what `mask` and `segments` hide; none if nothing is hidden."""
    for shown in (
        None if mask is None else mask[:, None, None, :],
        None if segments is None else _meet(segments)[:, None],
    ):
        if shown is not None:
            added = jnp.where(shown, 0.0, MASKED).astype(jnp.float32)
            bias = added if bias is None else jnp.maximum(bias.astype(jnp.float32) + added, MASKED)
    return bias


def _as_segments(q, mask, segments):
    if mask is None:
        return segments
    return jnp.zeros(q.shape[:2], jnp.int32), jnp.where(mask, 0, -1).astype(jnp.int32)


def _inside_shard_map() -> bool:
    mesh = jax.sharding.get_abstract_mesh()
    return not mesh.empty and mesh.are_all_axes_manual


class Spread(NamedTuple):
    """How tokens meet that lie on different devices; each is called with (q, k, v, mask, segments, scale)."""

    own: Callable[..., Array]
    """In place of `self_attention`."""
    cross: Callable[..., Array] | None
    """In place of `attention` without a bias; None leaves that to XLA."""


_spread: contextvars.ContextVar[Spread | None] = contextvars.ContextVar("spread", default=None)


@contextlib.contextmanager
def spread_by(implementation: Spread | None) -> Iterator[None]:
    """Within it, attention is computed by `implementation`; none is one device.

    Modules know no mesh: who traces a program for many devices says here how tokens that lie on different ones meet.
    """
    token = _spread.set(implementation)
    try:
        yield
    finally:
        _spread.reset(token)


@typed
def self_attention(
    q: Float[Array, "b n k e"],
    k: Float[Array, "b n k e"],
    v: Float[Array, "b n k e"],
    mask: Bool[Array, "b n"] | None = None,
    segments: Int[Array, "b n"] | None = None,
    scale: float | None = None,
) -> Float[Array, "b n k e"]:
    """`attention` of a sequence's tokens to one another, which may lie on several devices (`spread_by`)."""
    spread = _spread.get()
    if spread is not None:
        return spread.own(q, k, v, mask, segments, scale)
    pairs = None if segments is None else (segments, segments)
    return attention(q, k, v, mask, scale=scale, segments=pairs)


def xla(q, k, v, bias=None, *, scale: float):
    """JAX's own, which casts to float32 for the softmax without saying so: strict promotion would refuse."""
    with jax.numpy_dtype_promotion("standard"):
        return jax.nn.dot_product_attention(q, k, v, bias=bias, scale=scale, implementation="xla")


def cudnn_or_xla(q, k, v, bias=None, *, scale: float):
    # Every platform's branch is traced everywhere, and cuDNN's checks its own presence while it is traced.
    fits = q.dtype in (jnp.bfloat16, jnp.float16) and q.shape[-1] % 8 == 0 and q.shape[-1] <= 128
    if not fits or jax.default_backend() != "gpu":
        return xla(q, k, v, bias, scale=scale)
    bias = None if bias is None else bias.astype(q.dtype)
    return jax.nn.dot_product_attention(q, k, v, bias=bias, scale=scale, implementation="cudnn")
