"""Weights of diffusers' `WanTransformer3DModel`, or of our own class of it, as parameters of `DiT`, and back."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sora_jax.models.dit import DiTConfig
from sora_jax.weights.layout import Leaf, Tensor, check, gather, leaf, scatter
from sora_jax.weights.shapes import parameter_shapes

_EMBEDDER = "condition_embedder."
_MODULES = {
    "patch_embedding": "patch_embedding",
    "time/inner": _EMBEDDER + "time_embedder.linear_1",
    "time/outer": _EMBEDDER + "time_embedder.linear_2",
    "time_modulation": _EMBEDDER + "time_proj",
    "text/inner": _EMBEDDER + "text_embedder.linear_1",
    "text/outer": _EMBEDDER + "text_embedder.linear_2",
    "image/norm_in": _EMBEDDER + "image_embedder.norm1",
    "image/inner": _EMBEDDER + "image_embedder.ff.net.0.proj",
    "image/outer": _EMBEDDER + "image_embedder.ff.net.2",
    "image/norm_out": _EMBEDDER + "image_embedder.norm2",
    "head": "proj_out",
    "blocks/cross_norm": "norm2",
    "blocks/ffn_in": "ffn.net.0.proj",
    "blocks/ffn_out": "ffn.net.2",
    "blocks/neighbours": "ffn.neighbours",
    "blocks/cross_attention/added_key": "attn2.add_k_proj",
    "blocks/cross_attention/added_value": "attn2.add_v_proj",
    "blocks/cross_attention/added_key_norm": "attn2.norm_added_k",
} | {
    f"blocks/{ours}/{kind}": f"{theirs}.{name}"
    for ours, theirs in (("self_attention", "attn1"), ("cross_attention", "attn2"))
    for kind, name in (
        *(("query", "to_q"), ("key", "to_k"), ("value", "to_v"), ("out", "to_out.0")),
        *(("query_norm", "norm_q"), ("key_norm", "norm_k")),
    )
}
_TABLES = {
    "modulation": "scale_shift_table",
    "blocks/modulation": "scale_shift_table",
    "image/positions": _EMBEDDER + "image_embedder.pos_embed",
}
UNUSED = "norm_added_q"
"""Files of the image-to-video networks may carry this norm, which nothing uses."""


def dit_leaves(config: DiTConfig) -> dict[str, Leaf]:
    """Where each parameter of `DiT(config)` lies in diffusers' state dict."""
    leaves = {}
    for path, shape in parameter_shapes(config).items():
        in_block = path.startswith("blocks/")
        depth = config.depth if in_block else None
        prefix = "blocks.{}." if in_block else ""
        if path in _TABLES:
            leaves[path] = leaf(shape, prefix + _TABLES[path], (1, 2), ndim=3, depth=depth)
            continue
        module, kind = path.rsplit("/", 1)
        name = f"{prefix}{_MODULES[module]}.{'bias' if kind == 'bias' else 'weight'}"
        if kind == "taps":
            leaves[path] = leaf(shape, name, (2, 3, 0), ndim=4, depth=depth)
        elif path == "patch_embedding/kernel":
            sizes = (*config.patch, config.in_channels)
            leaves[path] = leaf(shape, name, (2, 3, 4, 1, 0), merged=sizes)
        else:
            leaves[path] = leaf(shape, name, (1, 0) if kind == "kernel" else None, depth=depth)
    return leaves


def from_diffusers_dit(state: Mapping[str, Tensor], config: DiTConfig, dtype: Any = None) -> dict[str, Any]:
    """Parameters of `DiT(config)` from a state dict.

    Raises:
        ValueError: a tensor is missing, is left over, or has another shape than the config's.
    """
    leaves = dit_leaves(config)
    state = {name: state[name] for name in state if UNUSED not in name}
    check(state, leaves, "the denoiser's state")
    return gather(state, leaves, dtype)


def to_diffusers_dit(params: Mapping[str, Any], config: DiTConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_dit`: a state dict for `WanTransformer3DModel`."""
    return scatter(params, dit_leaves(config))
