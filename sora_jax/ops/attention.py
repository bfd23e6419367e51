"""Attention (arXiv 1706.03762): o = softmax(s·q kᵀ + bias) v, with the softmax in float32.

What is fast differs by platform, so the lowering is chosen when the program is compiled for one: heads-first
batched matrix products on CPU (`sora-jax bench ops` has the figures), cuDNN's fused kernel on GPU in half
precision, XLA's fusion elsewhere.
"""

import jax
import jax.numpy as jnp
from jax import lax

from sora_jax.typing import Array, Bool, Float, typed

# A finite stand-in for -inf: with -inf a row without any key would give NaN.
MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)


@typed
def attention(
    q: Float[Array, "b n k e"],
    k: Float[Array, "b s k e"],
    v: Float[Array, "b s k e"],
    mask: Bool[Array, "b s"] | None = None,
    bias: Float[Array, "#b #k #n s"] | None = None,
    scale: float | None = None,
) -> Float[Array, "b n k e"]:
    """Attends from n queries to s keys, in k heads of e entries.

    Args:
        mask: which keys there are; a query without any key gets zeros.
        bias: added to the scaled logits.
        scale: s; default 1/√e.
    """
    s = float(q.shape[-1] ** -0.5 if scale is None else scale)
    if mask is not None:
        added = jnp.where(mask, 0.0, MASKED).astype(jnp.float32).reshape(mask.shape[0], 1, 1, mask.shape[1])
        bias = added if bias is None else jnp.maximum(bias.astype(jnp.float32) + added, MASKED)

    # Inputs are passed as they are: an absent bias must not become an operand.
    operands = (q, k, v) if bias is None else (q, k, v, bias)
    out = lax.platform_dependent(
        *operands,
        cpu=lambda *a: heads_first(*a, scale=s),
        cuda=lambda *a: cudnn_or_xla(*a, scale=s),
        default=lambda *a: xla(*a, scale=s),
    )
    if mask is not None:
        out = jnp.where(mask.any(axis=-1).reshape(-1, 1, 1, 1), out, jnp.zeros((), out.dtype))
    return out


def heads_first(q, k, v, bias=None, *, scale: float):
    """Two batched matrix products over [b·k, n, e], the form that XLA's CPU backend runs at matmul speed."""
    b, n, heads, e = q.shape
    s = k.shape[1]
    q, k, v = (a.transpose(0, 2, 1, 3).reshape(b * heads, a.shape[1], e) for a in (q * scale, k, v))
    logits = lax.dot_general(q, k, (((2,), (2,)), ((0,), (0,))), preferred_element_type=jnp.float32)
    if bias is not None:
        bias = jnp.broadcast_to(bias.astype(jnp.float32), (b, heads, n, s))
        logits = logits + bias.reshape(b * heads, n, s)
    weights = jax.nn.softmax(logits, axis=-1).astype(v.dtype)
    out = lax.batch_matmul(weights, v)
    return out.reshape(b, heads, n, e).transpose(0, 2, 1, 3)


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
