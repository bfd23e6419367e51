"""The T5 encoder: what the prompt's words become before the denoiser looks at them.

    A(x) = softmax(q kᵀ + B) v,   q, k, v = x W_q, x W_k, x W_v      (no 1/√e: W_q's initial size has it)
    x ← x + A(norm(x)) W_o
    x ← x + (gelu(norm(x) W_gate) ∘ (norm(x) W_up)) W_down

B[head, i, j] = table[bucket(j - i), head] is learned and sees only the distance between two tokens: exactly
for near ones, by logarithm for far ones. T5 (arXiv 1910.10683, version 1.1: gated GELU, arXiv 2002.05202) has
one table for all layers, UMT5 (arXiv 2304.09151) one a layer.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import RMSNorm
from sora_jax.typing import Array, Bool, Float, Int, typed


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """The encoder's sizes. `max_length` is the number of tokens a prompt is padded or cut to."""

    vocab: int
    width: int
    depth: int
    heads: int
    head_width: int
    ffn_width: int
    buckets: int = 32
    max_distance: int = 128
    shared_bias: bool = False
    eps: float = 1e-6
    max_length: int = 512

    def __post_init__(self):
        for field in ("vocab", "width", "depth", "heads", "head_width", "ffn_width", "max_length"):
            if getattr(self, field) < 1:
                raise ValueError(f"text {field} is {getattr(self, field)} and must be at least 1.")
        if self.buckets < 4 or self.buckets % 4:
            raise ValueError(f"text buckets is {self.buckets} and must be a positive multiple of 4.")
        if self.max_distance <= self.buckets // 4:
            raise ValueError(
                f"text max_distance is {self.max_distance} and must be more than a quarter of its buckets."
            )


# The encoder half of google/umt5-xxl, which Wan conditions on (arXiv 2503.20314).
TEXT_UMT5_XXL = TextConfig(vocab=256384, width=4096, depth=24, heads=64, head_width=64, ffn_width=10240)

TEXT_PLAYGROUND = TextConfig(
    vocab=512, width=128, depth=2, heads=4, head_width=32, ffn_width=256, max_length=56
)


@typed
def distance_buckets(length: int, buckets: int, max_distance: int) -> Int[np.ndarray, "s s"]:
    """bucket(j - i) for query i and key j, in [0, buckets): half of them for keys to the right.

    Of each half, one half again counts single steps and the rest grow by logarithm up to `max_distance`.
    """
    distance = np.arange(length)[None, :] - np.arange(length)[:, None]
    half, near = buckets // 2, buckets // 4
    size = np.abs(distance)
    # float32, as the published networks were trained: the last bit decides where a bucket ends.
    far = np.log(np.maximum(size, 1).astype(np.float32) / np.float32(near))
    far = far / np.float32(math.log(max_distance / near))
    far = np.minimum(near + (far * np.float32(half - near)).astype(np.int32), half - 1)
    return (np.where(size < near, size, far) + half * (distance > 0)).astype(np.int32)


def _normal(std: float):
    return nn.initializers.normal(std)


class PositionBias(nn.Module):
    """B: `length` -> [k, s, s], float32."""

    config: TextConfig

    @nn.compact
    def __call__(self, length: int):
        c = self.config
        init = nn.with_logical_partitioning(_normal(c.width**-0.5), (None, "heads"))
        table: Any = self.param("table", init, (c.buckets, c.heads), jnp.float32)
        return table[distance_buckets(length, c.buckets, c.max_distance)].transpose(2, 0, 1)


class TextAttention(nn.Module):
    """softmax(q kᵀ + bias) v W_o; `bias` is [b | 1, k, s, s] and already holds the mask."""

    config: TextConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, bias):
        c = self.config
        inner = c.heads * c.head_width

        def project(name, std):
            y = Linear(inner, ("embed", "heads"), False, self.dtype, _normal(std), name=name)(x)
            return y.reshape(*x.shape[:2], c.heads, c.head_width)

        q = project("q", (c.width * c.head_width) ** -0.5)
        k = project("k", c.width**-0.5)
        v = project("v", c.width**-0.5)
        logits = jnp.einsum("bike,bjke->bkij", q, k, preferred_element_type=jnp.float32)
        weights = jax.nn.softmax(logits + jnp.broadcast_to(bias, logits.shape), axis=-1)
        y = jnp.einsum("bkij,bjke->bike", weights.astype(self.dtype), v).reshape(*x.shape[:2], inner)
        return Linear(c.width, ("heads", "embed"), False, self.dtype, _normal(inner**-0.5), name="o")(y)


class GatedFFN(nn.Module):
    """(gelu(x W_gate) ∘ (x W_up)) W_down, GELU in its tanh form."""

    config: TextConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x):
        c = self.config
        inward = _normal(c.width**-0.5)
        gate = Linear(c.ffn_width, ("embed", "mlp"), False, self.dtype, inward, name="gate")(x)
        up = Linear(c.ffn_width, ("embed", "mlp"), False, self.dtype, inward, name="up")(x)
        outward = _normal(c.ffn_width**-0.5)
        y = nn.gelu(gate, approximate=True) * up
        return Linear(c.width, ("mlp", "embed"), False, self.dtype, outward, name="down")(y)


class TextBlock(nn.Module):
    """One layer. `bias` is the mask, with the shared B in it where the layers share one."""

    config: TextConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, bias):
        c = self.config
        if not c.shared_bias:
            own = PositionBias(c, name="position_bias")(x.shape[1])[None]
            shape = np.broadcast_shapes(own.shape, bias.shape)
            bias = jnp.broadcast_to(bias, shape) + jnp.broadcast_to(own, shape)
        y = RMSNorm(c.eps, name="attention_norm")(x)
        x = x + TextAttention(c, self.dtype, name="attention")(y, bias)
        y = RMSNorm(c.eps, name="ffn_norm")(x)
        x = x + GatedFFN(c, self.dtype, name="ffn")(y)
        return x, None


class TextEncoder(nn.Module):
    """Token ids -> one vector a token.

    ids in [0, vocab); mask True on the prompt's tokens, of which every row needs one. Padding isn't looked
    at and comes out as 0: Wan's denoiser, which has no text mask, learned it so.
    """

    config: TextConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    @typed
    def __call__(
        self, ids: Int[Array | np.ndarray, "b s"], mask: Bool[Array | np.ndarray, "b s"]
    ) -> Float[Array, "b s d"]:
        c = self.config
        init = nn.with_logical_partitioning(_normal(1.0), ("vocab", "embed"))
        table: Any = self.param("embedding", init, (c.vocab, c.width), jnp.float32)
        x = jnp.take(table, jnp.asarray(ids), axis=0).astype(self.dtype)
        mask = jnp.asarray(mask)
        bias = jnp.where(mask, 0.0, jnp.finfo(jnp.float32).min / 2)[:, None, None, :].astype(jnp.float32)
        if c.shared_bias:
            shared = PositionBias(c, name="position_bias")(ids.shape[1])[None]
            shape = np.broadcast_shapes(shared.shape, bias.shape)
            bias = jnp.broadcast_to(bias, shape) + jnp.broadcast_to(shared, shape)
        blocks = nn.scan(
            TextBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
            length=c.depth,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, _ = blocks(c, self.dtype, name="blocks")(x, bias)
        x = RMSNorm(c.eps, name="norm")(x)
        return jnp.where(mask[:, :, None], x, jnp.zeros((), x.dtype))
