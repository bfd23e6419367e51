"""Attention on a CPU: batched matrix products over [b·k, n, e], the form that XLA's CPU backend runs at matmul speed.

Heads take turns, so that the scores of one lie in the cache when they are read again. As in FlashAttention (arXiv
2205.14135), only the result and log Σ exp of the scores are kept for the backward pass, which computes them again.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from sora_jax.ops.attention_splash import SAVED
from sora_jax.ops.matmul import batch_matmul

SCORES = 2**21
"""Scores of one turn at most, unless a head alone has more."""


def heads_first(q, k, v, bias=None, *, scale: float, turns: bool = True):
    """o = softmax(s·q kᵀ + bias) v, for q [b, n, k, e], k and v [b, s, k, e] and a bias [#b, #k, #n, s].

    `turns` is whether heads may take turns: not where they lie on several devices.
    """
    b, n, heads, e = q.shape
    s = k.shape[1]
    q, k, v = (a.transpose(0, 2, 1, 3).reshape(b * heads, a.shape[1], e) for a in (q * scale, k, v))
    if bias is not None:
        bias = jnp.broadcast_to(bias.astype(jnp.float32), (b, heads, *bias.shape[2:]))
        bias = bias.reshape(b * heads, *bias.shape[2:])
    at_once = max(1, SCORES // (n * s)) if turns else b * heads
    out: Any = _attend(q, k, v, bias, at_once)
    return out.reshape(b, heads, n, e).transpose(0, 2, 1, 3)


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q, k, v, bias, at_once):
    return _forward(q, k, v, bias, at_once)[0]


def _forward(q, k, v, bias, at_once):
    out, log_sum = (checkpoint_name(a, SAVED) for a in _in_turns(_heads, at_once, q, k, v, bias))
    return out, (q, k, v, bias, out, log_sum)


def _backward(at_once, kept, d_out):
    return _in_turns(_gradients, at_once, *kept, d_out)


_attend.defvjp(_forward, _backward)


def _in_turns(f, at_once: int, *arrays):
    """f of arrays [g, ...], with at most `at_once` of the g at a time."""
    g = arrays[0].shape[0]
    size = max(c for c in range(1, min(at_once, g) + 1) if g % c == 0)
    if size == g:
        return f(*arrays)
    parts = jax.tree.map(lambda a: a.reshape(g // size, size, *a.shape[1:]), arrays)
    _, out = lax.scan(lambda carry, part: (carry, f(*part)), None, parts)
    return jax.tree.map(lambda a: a.reshape(g, *a.shape[2:]), out)


def _scores(q, k, bias):
    scores = batch_matmul("gne,gse->gns", q, k)
    return scores if bias is None else scores + bias


def _heads(q, k, v, bias):
    """The result [g, n, e] and log Σ exp of the scores [g, n, 1]."""
    scores = _scores(q, k, bias)
    highest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - highest).astype(v.dtype)
    # The product also sums the weights, by a column of ones: XLA's CPU backend sums slowly.
    out = batch_matmul("gns,gse->gne", weights, jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1))
    total = out[..., -1:]
    return (out[..., :-1] / total).astype(v.dtype), highest + jnp.log(total)


def _gradients(q, k, v, bias, out, log_sum, d_out):
    weights = jnp.exp(_scores(q, k, bias) - log_sum)
    d_v = batch_matmul("gns,gne->gse", weights.astype(v.dtype), d_out)
    along = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1, keepdims=True)
    d_scores = weights * (batch_matmul("gne,gse->gns", d_out, v) - along)
    rounded = d_scores.astype(v.dtype)
    d_q, d_k = batch_matmul("gns,gse->gne", rounded, k), batch_matmul("gns,gne->gse", rounded, q)
    d_bias = None
    if bias is not None:
        d_bias = jnp.sum(d_scores, axis=1, keepdims=True) if bias.shape[1] == 1 else d_scores
    return d_q.astype(q.dtype), d_k.astype(k.dtype), d_v.astype(v.dtype), d_bias
