"""Splash attention, JAX's flash attention (arXiv 2205.14135) for TPU: logits live in on-chip memory, block by block.

Blocks are 128 wide at least, so sequences are padded to whole blocks, and what was added is in a segment of its own.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_kernel as kernel,
)
from jax.experimental.pallas.ops.tpu.splash_attention import (
    splash_attention_mask_info as masks,
)

LANES = 128
SAVED = "attention"
"""The name of what the backward pass needs of the forward one, for a rematerialisation policy that keeps it."""
LARGEST_BLOCK = 512
"""Logits that are at work at once are a square of this side."""
LONG = 8192
"""From so many tokens on a kernel holds two blocks of one side while the other streams past: for each that it holds the
whole other side is read anew, and with blocks of 512 a v6e waits for its memory."""
# A `FullMask` would be looked through block by block and listed in scalar memory, which long clips fill.
EVERY_BLOCK = masks.MaskInfo(None, None, None, None, None)
LEAST_LOGITS = 512 * 512
"""Below so many logits a head XLA's own attention is left to it: the kernel's padding and start cost more."""


def splash_fits(n: int, s: int) -> bool:
    """Whether n queries and s keys are many enough for the kernel to pay."""
    return n * s >= LEAST_LOGITS


def _block(length: int) -> int:
    return min(LARGEST_BLOCK, -(-length // LANES) * LANES)


def _held(length: int) -> int:
    return (2 if length >= LONG else 1) * _block(length)


def _padded(a, axis: int, multiple: int, value=0):
    missing = -a.shape[axis] % multiple
    if not missing:
        return a
    return jnp.pad(
        a,
        [(0, missing if i == axis else 0) for i in range(a.ndim)],
        constant_values=jnp.asarray(value, a.dtype),
    )


def splash(q, k, v, segments=None, *, scale: float, interpret: bool = False):
    """Attention of q [b, n, k, e] to k, v [b, s, k, e] as `ops.attention` defines it, without a bias.

    `segments`: int32 [b, n] and [b, s], of -2 and more; `interpret` runs the kernel without a TPU.
    """
    # Across to a text it is cheap to do again.
    saved = SAVED if q.shape[1] == k.shape[1] else None
    q, k, v = (a.transpose(0, 2, 1, 3) for a in (q, k, v))
    return _attend(q, k, v, segments, scale, interpret, residual_checkpoint_name=saved).transpose(0, 2, 1, 3)


def splash_part(q, k, v, segments=None, *, scale: float, interpret: bool = False):
    """What some of the keys give: their attention [b, k, n, e] and log Σ e^S, float32 [b, k, n], of heads-first arrays.

    A query that meets none of them has a sum far below any other's. It has no gradient.
    """
    out, (log_sum,) = _attend(q, k, v, segments, scale, interpret, save_residuals=True)
    return out, log_sum


def splash_part_gradients(q, k, v, segments, out, log_sum, d_out, *, scale: float, interpret: bool = False):
    """What some of the keys have to do with the gradients of q, k and v, float32, heads first as in `splash_part`.

    `out` with its gradient `d_out`, and `log_sum`, are of the attention to all keys; those in k and v are a part.
    """
    n, s, e = q.shape[2], k.shape[2], q.shape[3]
    padded_q, padded_k, padded_v, ids, blocks = _prepared(q, k, v, segments, scale)
    held = blocks.block_q

    def gradients(q, k, v, ids, out, log_sum, d_out):
        kept = (q, k, v, ids, None, out, log_sum, EVERY_BLOCK, EVERY_BLOCK)
        return kernel._splash_attention_bwd(
            False, kernel.DEFAULT_MASK_VALUE, False, blocks, None, None, None, interpret, kept, d_out
        )[3:6]

    out, d_out = (_padded(_padded(a, 3, LANES), 2, held) for a in (out, d_out))
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        made = jax.vmap(gradients)(
            padded_q, padded_k, padded_v, ids, out, _padded(log_sum, 2, held), d_out.astype(q.dtype)
        )
    d_q, d_k, d_v = (a.astype(jnp.float32)[..., :e] for a in made)
    # The kernel saw queries that were scaled before.
    return d_q[:, :, :n] * scale, d_k[:, :, :s], d_v[:, :, :s]


def _prepared(q, k, v, segments, scale):
    """The arrays as the kernel takes them, queries scaled and all padded to whole blocks; its blocks."""
    b, _, n, _ = q.shape
    s = k.shape[2]
    block_q, block_k, held_q, held_k = _block(n), _block(s), _held(n), _held(s)
    if segments is None and (n % held_q or s % held_k):
        segments = jnp.zeros((b, n), jnp.int32), jnp.zeros((b, s), jnp.int32)
    q, k, v = (_padded(a, 3, LANES) for a in (q * jnp.asarray(scale, q.dtype), k, v))
    q, k, v = _padded(q, 2, held_q), _padded(k, 2, held_k), _padded(v, 2, held_k)
    ids = None
    if segments is not None:
        ids = kernel.SegmentIds(q=_padded(segments[0], 1, held_q, -3), kv=_padded(segments[1], 1, held_k, -4))
    blocks = kernel.BlockSizes(
        block_q=held_q,
        block_kv=block_k,
        block_kv_compute=block_k,
        block_q_dkv=block_q,
        block_kv_dkv=held_k,
        block_kv_dkv_compute=block_k,
        block_q_dq=held_q,
        block_kv_dq=block_k,
    )
    return q, k, v, ids, blocks


def _attend(q, k, v, segments, scale, interpret, save_residuals=False, residual_checkpoint_name=None) -> Any:
    n, e, given = q.shape[2], q.shape[3], q.dtype
    q, k, v, ids, blocks = _prepared(q, k, v, segments, scale)
    # The kernel was written for JAX's own promotion rules.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        attend = kernel.SplashAttentionKernel(
            *(EVERY_BLOCK, EVERY_BLOCK, EVERY_BLOCK),
            block_sizes=blocks,
            is_mqa=False,
            save_residuals=save_residuals,
            mask_value=kernel.DEFAULT_MASK_VALUE,
            attn_logits_soft_cap=None,
            residual_checkpoint_name=residual_checkpoint_name,
            mask_function=None,
            interpret=interpret,
        )
        made: Any = jax.vmap(attend)(q, k, v, ids)
    if not save_residuals:
        return made[:, :, :n, :e].astype(given)
    out, (log_sum,) = made
    return out[:, :, :n, :e].astype(given), (log_sum[:, :, :n],)
