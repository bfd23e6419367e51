"""Weights of diffusers' `WanTransformer3DModel` as parameters of `sora_jax.models.dit.DiT`, and back.

Torch keeps a linear layer as [out, in]; here it is [in, out]. Blocks lie along a leading axis of their own.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import traverse_util

from sora_jax.models.dit import DiT, DiTConfig

Params = dict

LINEARS = {
    "time/inner": "condition_embedder.time_embedder.linear_1",
    "time/outer": "condition_embedder.time_embedder.linear_2",
    "time_modulation": "condition_embedder.time_proj",
    "text/inner": "condition_embedder.text_embedder.linear_1",
    "text/outer": "condition_embedder.text_embedder.linear_2",
    "head": "proj_out",
}
BLOCK_LINEARS = {
    f"{ours}/{kind}": f"{theirs}.{name}"
    for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2"))
    for kind, name in (("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0"))
} | {"ffn_in": "ffn.net.0.proj", "ffn_out": "ffn.net.2"}
BLOCK_NORMS = {
    f"{ours}/{kind}_norm": f"{theirs}.norm_{kind[0]}"
    for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2"))
    for kind in ("query", "key")
}


def _names(config: DiTConfig) -> Iterator[tuple[str, str, str]]:
    """(our path, their name, how the array changes); `{}` in both stands for the block's index."""
    yield "patch_embedding/kernel", "patch_embedding.weight", "patch"
    yield "patch_embedding/bias", "patch_embedding.bias", "same"
    yield "modulation", "scale_shift_table", "table"
    for ours, theirs in LINEARS.items():
        yield f"{ours}/kernel", f"{theirs}.weight", "transpose"
        yield f"{ours}/bias", f"{theirs}.bias", "same"
    for ours, theirs in BLOCK_LINEARS.items():
        yield f"blocks/{ours}/kernel", f"blocks.{{}}.{theirs}.weight", "transpose"
        yield f"blocks/{ours}/bias", f"blocks.{{}}.{theirs}.bias", "same"
    for ours, theirs in BLOCK_NORMS.items():
        yield f"blocks/{ours}/scale", f"blocks.{{}}.{theirs}.weight", "same"
    yield "blocks/cross_norm/scale", "blocks.{}.norm2.weight", "same"
    yield "blocks/cross_norm/bias", "blocks.{}.norm2.bias", "same"
    yield "blocks/modulation", "blocks.{}.scale_shift_table", "table"


def _ours(array: np.ndarray, change: str) -> np.ndarray:
    if change == "patch":
        return array.transpose(2, 3, 4, 1, 0).reshape(-1, array.shape[0])
    if change == "table":
        return array[0]
    return array.T if change == "transpose" else array


def _theirs(array: np.ndarray, change: str, config: DiTConfig) -> np.ndarray:
    if change == "patch":
        return array.reshape(*config.patch, config.in_channels, config.width).transpose(4, 3, 0, 1, 2)
    if change == "table":
        return array[None]
    return array.T if change == "transpose" else array


def from_diffusers_dit(state: Mapping[str, np.ndarray], config: DiTConfig) -> Params:
    """Parameters of `DiT(config)` from a state dict of numpy arrays; dtypes are kept.

    Raises:
        ValueError: a tensor is missing, is left over, or has another shape than the config's.
    """
    flat, left = {}, set(state)

    def take(name, change):
        if name not in left:
            raise ValueError(f"the weights lack {name}: they are of another network than this config's.")
        left.discard(name)
        return np.ascontiguousarray(_ours(np.asarray(state[name]), change))

    for path, name, change in _names(config):
        if "{}" in name:
            flat[path] = np.stack([take(name.format(i), change) for i in range(config.depth)])
        else:
            flat[path] = take(name, change)
    if left:
        raise ValueError(
            f"{len(left)} tensors are left, such as {min(left)}: the weights are of another network than "
            f"this config's, of depth {config.depth}."
        )
    _check_shapes(flat, config)
    return traverse_util.unflatten_dict(flat, sep="/")


def to_diffusers_dit(params: Params, config: DiTConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_dit`: a state dict for `WanTransformer3DModel`."""
    flat, state = traverse_util.flatten_dict(params, sep="/"), {}
    for path, name, change in _names(config):
        array = np.asarray(flat[path])
        if "{}" in name:
            for i in range(config.depth):
                state[name.format(i)] = np.ascontiguousarray(_theirs(array[i], change, config))
        else:
            state[name] = np.ascontiguousarray(_theirs(array, change, config))
    return state


def _check_shapes(flat: Mapping[str, np.ndarray], config: DiTConfig) -> None:
    x = jax.ShapeDtypeStruct((1, *config.patch, config.in_channels), jnp.float32)
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    text = jax.ShapeDtypeStruct((1, 1, config.text_width), jnp.float32)
    expected = jax.eval_shape(DiT(config).init, jax.random.key(0), x, t, text)["params"]
    leaves: dict[str, Any] = traverse_util.flatten_dict(nn.unbox(expected), sep="/")  # pyright: ignore
    for path, leaf in leaves.items():
        if flat[path].shape != leaf.shape:
            raise ValueError(f"{path} is {flat[path].shape} in the weights and {leaf.shape} by the config.")
