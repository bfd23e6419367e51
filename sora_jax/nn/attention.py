"""Attention with normalised queries and keys: q = RMSNorm(x W_q), k = RMSNorm(c W_k), before heads are cut.

The norm over the full width is Wan's (arXiv 2503.20314); QK normalisation itself is arXiv 2010.04245.
"""

from collections.abc import Callable

import jax.numpy as jnp
from flax import linen as nn

from sora_jax.nn.linear import LECUN, Linear
from sora_jax.nn.norm import RMSNorm
from sora_jax.ops.attention import attention, self_attention
from sora_jax.ops.rope import Rotation, apply_rope


class Attention(nn.Module):
    """From tokens x [b, n, d] to `context` [b, s, d], or to x itself where there is none.

    `rotation` turns queries and keys (self attention); `mask` bool [b, s] which context tokens there are.
    `added` [b, m, d] are tokens with a softmax, keys and values of their own, whose result is added before
    the last product (the image of Wan's image-to-video networks).
    """

    heads: int
    epsilon: float = 1e-6
    dtype: jnp.dtype = jnp.float32
    out_init: Callable = LECUN

    @nn.compact
    def __call__(self, x, context=None, *, rotation: Rotation | None = None, mask=None, added=None):
        width = x.shape[-1]
        attend = self_attention if context is None else attention
        context = x if context is None else context

        def project(source, name):
            return Linear(width, ("embed", "heads"), dtype=self.dtype, name=name)(source)

        q = RMSNorm(self.epsilon, "heads", name="query_norm")(project(x, "query"))
        k = RMSNorm(self.epsilon, "heads", name="key_norm")(project(context, "key"))
        v = project(context, "value")
        q, k, v = (self._cut(a) for a in (q, k, v))
        if rotation is not None:
            q, k = apply_rope(q, rotation), apply_rope(k, rotation)
        o = attend(q, k, v, mask)
        if added is not None:
            k = RMSNorm(self.epsilon, "heads", name="added_key_norm")(project(added, "added_key"))
            o = o + attention(q, self._cut(k), self._cut(project(added, "added_value")))
        out = Linear(width, ("heads", "embed"), dtype=self.dtype, kernel_init=self.out_init, name="out")
        return out(o.reshape(*x.shape[:2], width))

    def _cut(self, a):
        return a.reshape(*a.shape[:2], self.heads, a.shape[-1] // self.heads)
