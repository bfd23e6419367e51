"""Ring attention (arXiv 2310.01889): keys and values travel round a ring of devices, past queries that stay.

With the online softmax (arXiv 2205.14135) over the blocks j that come by,
m' = max(m, max_s S_j),  l' = e^(m-m')·l + Σ e^(S_j-m'),  o' = e^(m-m')·o + e^(S_j-m') V_j,  and o/l at the end.
The backward pass sends the blocks round once more with their gradients, from  P = e^(S-L),  L = m + log l:
dV = Pᵀ dO,  dS = P ∘ (dO Vᵀ - rowsum(dO ∘ O)),  dQ = s·dS K,  dK = s·dSᵀ Q.  So a device holds n/p tokens and no more.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from sora_jax.ops.attention import MASKED
from sora_jax.ops.attention_splash import SAVED, splash_fits, splash_part, splash_part_gradients

LARGEST_BLOCK = 1024
"""Keys whose logits are there at a time."""


class Ring(NamedTuple):
    """How devices along a mesh axis are joined: device i sends to `sends[i]`; after `size` turns all is back."""

    axis: str
    size: int
    sends: tuple[tuple[int, int], ...]
    scale: float
    block: int = LARGEST_BLOCK


@functools.partial(jax.custom_vjp, nondiff_argnums=(5,))
def ring_attention(q, k, v, q_segments, k_segments, ring: Ring):
    """Attention of this device's queries to the keys of the whole ring, inside `shard_map`.

    q [b, n, k, e], k and v [b, s, k, e]; segments int32 [b, n] and [b, s], or none. A query that meets no key
    gets zeros.
    """
    return _forward(q, k, v, q_segments, k_segments, ring)[0]


def _send(tree, ring: Ring):
    return jax.tree.map(lambda a: lax.ppermute(a, ring.axis, ring.sends), tree)


def _blocks(a, block: int):
    """[b, k, s, ...] as [s/block, b, k, block, ...]: the leading axis is scanned over."""
    length = a.shape[2]
    size = next(size for size in range(min(block, length), 0, -1) if length % size == 0)
    return jnp.moveaxis(a.reshape(*a.shape[:2], length // size, size, *a.shape[3:]), 2, 0)


def _logits(q, k, q_segments, k_segments, scale):
    s = jnp.einsum("bkne,bkse->bkns", q, k, preferred_element_type=jnp.float32) * scale
    if k_segments is None:
        return s, None
    shown = q_segments[:, None, :, None] == k_segments[:, :, None, :]
    return jnp.where(shown, s, MASKED), shown


def _shown(p, shown):
    return p if shown is None else jnp.where(shown, p, 0.0)


def _accumulate(state, q, q_segments, travelling, ring: Ring):
    """(o, m, l) with one device's keys, values and segments taken in."""
    products = functools.partial(_by_products, ring=ring)
    if not splash_fits(q.shape[2], travelling[0].shape[2]):
        return products(state, q, q_segments, travelling)
    kernel = functools.partial(_by_kernel, ring=ring)
    return lax.platform_dependent(state, q, q_segments, travelling, tpu=kernel, default=products)


def _by_kernel(state, q, q_segments, travelling, ring: Ring, interpret: bool = False):
    """By TPU's kernel: logits don't leave the chip's own memory."""
    (o, m, l), (k, v, k_segments) = state, travelling
    segments = None if k_segments is None else (q_segments, k_segments[:, 0])
    part, log_sum = splash_part(q, k, v, segments, scale=ring.scale, interpret=interpret)
    highest = jnp.maximum(m, log_sum)
    fade = jnp.exp(m - highest)
    share = jnp.where(log_sum > MASKED / 2, jnp.exp(log_sum - highest), 0.0)
    added = part.astype(jnp.float32) * share[..., None]
    return o * fade[..., None] + added, highest, l * fade + share


def _by_products(state, q, q_segments, travelling, ring: Ring):
    def take_in(state, block):
        o, m, l = state
        k, v, segments = block
        s, shown = _logits(q, k, q_segments, segments, ring.scale)
        highest = jnp.maximum(m, s.max(axis=-1))
        p = _shown(jnp.exp(s - highest[..., None]), shown)
        fade = jnp.exp(m - highest)
        added = jnp.einsum("bkns,bkse->bkne", p.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return (o * fade[..., None] + added, highest, l * fade + p.sum(axis=-1)), None

    blocks = jax.tree.map(lambda a: _blocks(a, ring.block), travelling)
    return lax.scan(take_in, state, blocks)[0]


def _heads_first(*arrays):
    return tuple(a.transpose(0, 2, 1, 3) for a in arrays)


def _forward(q, k, v, q_segments, k_segments, ring: Ring):
    given = (q, k, v, q_segments, k_segments)
    q, k, v = _heads_first(q, k, v)
    k_segments = None if k_segments is None else k_segments[:, None]
    lowest = jnp.full(q.shape[:3], MASKED, jnp.float32)
    state = (jnp.zeros(q.shape, jnp.float32), lowest, jnp.zeros_like(lowest))

    def turn(carry, _):
        travelling, state = carry
        # Sent off before the products that use it, which don't wait for it.
        following = _send(travelling, ring)
        return (following, _accumulate(state, q, q_segments, travelling, ring)), None

    (travelling, state), _ = lax.scan(turn, ((k, v, k_segments), state), length=ring.size - 1)
    o, m, l = _accumulate(state, q, q_segments, travelling, ring)
    o = (o / jnp.where(l > 0, l, 1.0)[..., None]).astype(q.dtype)
    # Where there was no key, L is so high that every weight is 0.
    log_sum = jnp.where(l > 0, m + jnp.log(jnp.where(l > 0, l, 1.0)), -MASKED)
    out, log_sum = (checkpoint_name(a, SAVED) for a in (*_heads_first(o), log_sum))
    return out, (*given, out, log_sum)


def _gradients_by_kernel(kept, travelling, ring: Ring, interpret: bool = False):
    """What one device's keys and values add to the gradients, (d_q, d_k, d_v): by TPU's kernels."""
    (q, q_segments, out, log_sum, d_out), (k, v, k_segments) = kept, travelling
    segments = None if k_segments is None else (q_segments, k_segments[:, 0])
    return splash_part_gradients(
        q, k, v, segments, out, log_sum, d_out, scale=ring.scale, interpret=interpret
    )


def _gradients_by_products(kept, travelling, ring: Ring):
    q, q_segments, out, log_sum, d_out = kept
    inner = jnp.sum(d_out.astype(jnp.float32) * out.astype(jnp.float32), axis=-1)

    def block(d_q, given):
        k, v, segments = given
        s, shown = _logits(q, k, q_segments, segments, ring.scale)
        p = _shown(jnp.exp(s - log_sum[..., None]), shown)
        d_v = jnp.einsum("bkns,bkne->bkse", p.astype(d_out.dtype), d_out, preferred_element_type=jnp.float32)
        d_p = jnp.einsum("bkne,bkse->bkns", d_out, v, preferred_element_type=jnp.float32)
        d_s = (p * (d_p - inner[..., None]) * ring.scale).astype(q.dtype)
        d_q = d_q + jnp.einsum("bkns,bkse->bkne", d_s, k, preferred_element_type=jnp.float32)
        d_k = jnp.einsum("bkns,bkne->bkse", d_s, q, preferred_element_type=jnp.float32)
        return d_q, (d_k, d_v)

    blocks = jax.tree.map(lambda a: _blocks(a, ring.block), travelling)
    d_q, parts = lax.scan(block, jnp.zeros(q.shape, jnp.float32), blocks)
    d_k, d_v = (jnp.moveaxis(a, 0, 2).reshape(travelling[0].shape) for a in parts)
    return d_q, d_k, d_v


def _gradients(kept, travelling, ring: Ring):
    products = functools.partial(_gradients_by_products, ring=ring)
    if not splash_fits(kept[0].shape[2], travelling[0].shape[2]):
        return products(kept, travelling)
    kernel = functools.partial(_gradients_by_kernel, ring=ring)
    return lax.platform_dependent(kept, travelling, tpu=kernel, default=products)


def _backward(ring: Ring, kept, d_out):
    q, k, v, q_segments, k_segments, out, log_sum = kept
    types = q.dtype, k.dtype, v.dtype
    q, k, v, out, d_out = _heads_first(q, k, v, out, d_out)
    k_segments = None if k_segments is None else k_segments[:, None]
    own = q, q_segments, out, log_sum, d_out

    def turn(carry, _):
        d_q, travelling, gathered = carry
        following = _send(travelling, ring)
        more, *added = _gradients(own, travelling, ring)
        return (d_q + more, following, _send(jax.tree.map(jnp.add, gathered, added), ring)), None

    zeros = jnp.zeros(q.shape, jnp.float32), [jnp.zeros(k.shape, jnp.float32)] * 2
    first = zeros[0], (k, v, k_segments), zeros[1]
    (d_q, travelling, gathered), _ = lax.scan(turn, first, length=ring.size - 1)
    more, *added = _gradients(own, travelling, ring)
    d_k, d_v = _send(jax.tree.map(jnp.add, gathered, added), ring)
    d_q, d_k, d_v = _heads_first(d_q + more, d_k, d_v)
    return d_q.astype(types[0]), d_k.astype(types[1]), d_v.astype(types[2]), None, None


ring_attention.defvjp(_forward, _backward)
