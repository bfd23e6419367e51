"""A recorded run of a reference text encoder, and the same stages of ours on its weights and inputs."""

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.models.text import (
    GatedFFN,
    PositionBias,
    TextAttention,
    TextConfig,
    TextEncoder,
    distance_buckets,
)
from sora_jax.nn.norm import RMSNorm
from sora_jax.weights import from_diffusers_text

CONFIGS = {
    kind: TextConfig(
        vocab=32,
        width=16,
        depth=3,
        heads=2,
        head_width=6,
        ffn_width=20,
        max_length=200,
        shared_bias=kind == "t5",
    )
    for kind in ("umt5", "t5")
}


def stages(record: dict[str, np.ndarray], config: TextConfig) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Name -> (ours, the reference's); at padding, where the reference's mean nothing, both are left out."""
    state = {name.removeprefix("state/"): x for name, x in record.items() if name.startswith("state/")}
    params = from_diffusers_text(state, config)
    first = {name: first_layer(tree) for name, tree in params["blocks"].items()}
    bias_params = params["position_bias"] if config.shared_bias else first["position_bias"]
    ids, mask, x = record["ids"], record["mask"], record["x"]
    length = ids.shape[1]

    blocked = np.where(mask, np.float32(0), np.float32(-1e30))[:, None, None, :]
    blocked = np.broadcast_to(blocked, (len(ids), config.heads, length, length))

    @jax.jit  # one program: run by hand, every operation would be compiled alone
    def run():
        bias = PositionBias(config).apply({"params": bias_params}, length)
        seen = jnp.broadcast_to(bias[None], blocked.shape) + blocked
        return {
            "output": TextEncoder(config).apply({"params": params}, ids, mask),
            "attention": TextAttention(config).apply({"params": first["attention"]}, x, seen),
            "ffn": GatedFFN(config).apply({"params": first["ffn"]}, x),
            "norm": RMSNorm(config.eps).apply({"params": first["attention_norm"]}, x),
            "bias": bias,
        }

    ours = run() | {
        "buckets": distance_buckets(300, config.buckets, config.max_distance)[150],
    }
    pairs = {}
    for name, value in ours.items():
        theirs = record[name]
        if name in ("output", "attention"):
            value, theirs = np.asarray(value)[mask], theirs[mask]
        pairs[name] = np.asarray(value), theirs
    return pairs


def first_layer(tree):
    if isinstance(tree, dict):
        return {name: first_layer(value) for name, value in tree.items()}
    return tree[0]


def relative_error(ours: np.ndarray, theirs: np.ndarray) -> float:
    """|ours - theirs| / |theirs|, in the largest number of each."""
    theirs = theirs.astype(np.float64)
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())
