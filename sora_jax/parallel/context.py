"""Context parallelism: attention among tokens that are cut over the mesh's `context` axis, each to all of them.

`all_gather`: every device fetches all keys and values, and attends from its own queries.
`ulysses` (arXiv 2309.14509): an all-to-all turns "some tokens, all heads" into "all tokens, some heads" and back.
`ring` (arXiv 2310.01889): keys and values go round; memory is O(n/p).
`ulysses_ring` (arXiv 2405.07719): neighbours exchange tokens for heads as far as heads go, and rings join the rest.
"""

import math
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import Mesh, PartitionSpec

from sora_jax.ops.attention import attention
from sora_jax.parallel.ring import Ring, ring_attention
from sora_jax.typing import Array

Method = Literal["ulysses_ring", "ulysses", "ring", "all_gather"]
METHODS: tuple[str, ...] = get_args(Method)

TOKENS = PartitionSpec(("data", "fsdp"), "context", "tensor", None)
MARKS = PartitionSpec(("data", "fsdp"), "context")


def cross_attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None,
    segments: tuple[Array, Array] | None,
    scale: float,
    *,
    mesh: Mesh,
) -> Array:
    """Attention of queries [b, n, k, e], cut as `context_attention` cuts them, to keys that every one of the context
    axis's devices holds whole. Rows and heads that the mesh doesn't divide stay whole too; queries are padded.

    Its other arguments are those of `ops.attention`.
    """
    copies, parts, columns = _copies(mesh), mesh.shape["context"], mesh.shape["tensor"]
    rows = ("data", "fsdp") if q.shape[0] % copies == 0 else None
    heads = "tensor" if q.shape[2] % columns == 0 else None
    marks = None if segments is None else (PartitionSpec(rows, "context"), PartitionSpec(rows))
    n, missing = q.shape[1], -q.shape[1] % parts
    if missing:
        q = jnp.pad(q, ((0, 0), (0, missing), (0, 0), (0, 0)))
        segments = segments and (jnp.pad(segments[0], ((0, 0), (0, missing))), segments[1])

    def local(q, k, v, mask, segments):
        return attention(q, k, v, mask, scale=scale, segments=segments)

    queries, keys = PartitionSpec(rows, "context", heads), PartitionSpec(rows, None, heads)
    out = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(queries, keys, keys, None if mask is None else PartitionSpec(rows), marks),
        out_specs=queries,
        check_vma=False,
    )(q, k, v, mask, segments)
    return out[:, :n]


def _copies(mesh: Mesh) -> int:
    return mesh.shape["data"] * mesh.shape["fsdp"]


def context_attention(
    q: Array,
    k: Array,
    v: Array,
    mask: Array | None = None,
    segments: Array | None = None,
    scale: float | None = None,
    *,
    mesh: Mesh,
    method: Method = "ulysses_ring",
    whole_batch: bool = False,
) -> Array:
    """Attention of a sequence to itself, cut over `mesh`: batch on data and fsdp, tokens on context, heads on tensor.

    Args:
        q, k, v: [b, n, k, e], whole as the program sees them.
        mask: bool [b, n], which keys there are; a query without any key gets zeros.
        segments: int [b, n], of 0 and more; only tokens of one segment meet.
        scale: default 1/√e.
        method: how tokens on different devices meet; the answer is the same.
        whole_batch: whether a batch that data and fsdp don't divide lies whole on each device there.

    Raises:
        ValueError: a batch or a number of heads that the mesh doesn't divide. Any n is taken: it is padded.
    """
    b, n, heads, e = q.shape
    copies, parts, tokens, marks = _copies(mesh), mesh.shape["context"], TOKENS, MARKS
    if whole_batch and b % copies:
        copies, tokens, marks = 1, PartitionSpec(None, *TOKENS[1:]), PartitionSpec(None, *MARKS[1:])
    exchanged = _check(method, b, heads, copies, parts, mesh.shape["tensor"])
    scale = float(e**-0.5 if scale is None else scale)

    missing = -n % parts
    q_segments = segments
    if segments is None and (missing or mask is not None):
        q_segments = jnp.zeros((b, n), jnp.int32)
    k_segments = q_segments
    if q_segments is not None:
        k_segments = q_segments if mask is None else jnp.where(mask, q_segments, -2)
        q_segments, k_segments = (
            jnp.pad(a, ((0, 0), (0, missing)), constant_values=-1) for a in (q_segments, k_segments)
        )
    if missing:
        q, k, v = (jnp.pad(a, ((0, 0), (0, missing), (0, 0), (0, 0))) for a in (q, k, v))

    def local(q, k, v, q_segments, k_segments):
        if method == "all_gather":
            return _gathered(q, k, v, q_segments, k_segments, scale)
        return _exchanged(q, k, v, q_segments, k_segments, scale, exchanged, parts)

    marks = None if q_segments is None else marks
    out = jax.shard_map(
        local,
        mesh=mesh,
        in_specs=(tokens, tokens, tokens, marks, marks),
        out_specs=tokens,
        check_vma=False,
    )(q, k, v, q_segments, k_segments)
    return out[:, :n]


def _check(method: Method, b: int, heads: int, copies: int, parts: int, tensor: int) -> int:
    """How many neighbours exchange tokens for heads."""
    if b % copies:
        raise ValueError(
            f"a batch of {b} doesn't divide over data x fsdp = {copies} devices: choose a multiple of {copies}."
        )
    if heads % tensor:
        raise ValueError(
            f"{heads} heads don't divide over tensor={tensor} devices: choose a tensor axis that divides {heads}."
        )
    own = heads // tensor
    if method == "ulysses" and own % parts:
        raise ValueError(
            f"{own} heads on each device don't divide over context={parts} for ulysses: choose ring, ulysses_ring "
            f"or all_gather, or a context axis that divides {own}."
        )
    return 1 if method == "ring" else math.gcd(own, parts)


def _attend(q, k, v, q_segments, k_segments, scale):
    segments = None if q_segments is None else (q_segments, k_segments)
    return attention(q, k, v, scale=scale, segments=segments)


def _gathered(q, k, v, q_segments, k_segments, scale):
    k, v, k_segments = jax.tree.map(
        lambda a: lax.all_gather(a, "context", axis=1, tiled=True), (k, v, k_segments)
    )
    return _attend(q, k, v, q_segments, k_segments, scale)


def _exchanged(q, k, v, q_segments, k_segments, scale, exchanged: int, parts: int):
    """Ulysses among each `exchanged` neighbours, then a ring through the device of the same place in every group."""
    rings = parts // exchanged
    groups = [[i * exchanged + j for j in range(exchanged)] for i in range(rings)]

    def exchange(a, split, concat):
        return lax.all_to_all(a, "context", split, concat, axis_index_groups=groups, tiled=True)

    if exchanged > 1:
        q, k, v = (exchange(a, 2, 1) for a in (q, k, v))
        q_segments, k_segments = jax.tree.map(
            lambda a: lax.all_gather(a, "context", axis=1, tiled=True, axis_index_groups=groups),
            (q_segments, k_segments),
        )
    if rings == 1:
        out = _attend(q, k, v, q_segments, k_segments, scale)
    else:
        sends = tuple((i, (i + exchanged) % parts) for i in range(parts))
        ring = Ring("context", rings, sends, scale)
        out = ring_attention(q, k, v, q_segments, k_segments, ring)
    return exchange(out, 1, 2) if exchanged > 1 else out
