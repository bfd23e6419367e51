"""Weights of transformers' `CLIPVisionModel` (`image_encoder/` of a diffusers folder) as parameters of
`sora_jax.models.image.ImageEncoder`, and back.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sora_jax.models.image import ImageConfig
from sora_jax.weights.layout import Leaf, Tensor, check, gather, leaf, scatter
from sora_jax.weights.shapes import parameter_shapes

PREFIX = "vision_model."
_WHOLE = {
    "whole": "embeddings.class_embedding",
    "positions": "embeddings.position_embedding.weight",
    "patch_embedding/kernel": "embeddings.patch_embedding.weight",
    "norm_in": "pre_layrnorm",
    "norm_out": "post_layernorm",
}
_BLOCK = {
    "attention_norm": "layer_norm1",
    "query": "self_attn.q_proj",
    "key": "self_attn.k_proj",
    "value": "self_attn.v_proj",
    "out": "self_attn.out_proj",
    "ffn_norm": "layer_norm2",
    "ffn_in": "mlp.fc1",
    "ffn_out": "mlp.fc2",
}


def image_leaves(config: ImageConfig) -> dict[str, Leaf]:
    """Where each parameter of `ImageEncoder(config)` lies in the published state."""
    leaves = {}
    for path, shape in parameter_shapes(config).items():
        if path == "patch_embedding/kernel":
            sizes = (config.patch, config.patch, 3)
            leaves[path] = leaf(shape, PREFIX + _WHOLE[path], (2, 3, 1, 0), merged=sizes)
        elif path in _WHOLE:
            leaves[path] = leaf(shape, PREFIX + _WHOLE[path])
        else:
            module, kind = path.rsplit("/", 1)
            end = "bias" if kind == "bias" else "weight"
            if module in _WHOLE:
                leaves[path] = leaf(shape, f"{PREFIX}{_WHOLE[module]}.{end}")
            else:
                name = f"{PREFIX}encoder.layers.{{}}.{_BLOCK[module.removeprefix('blocks/')]}.{end}"
                leaves[path] = leaf(shape, name, (1, 0) if kind == "kernel" else None, depth=config.depth)
    return leaves


def vision_alone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The vision tensors under one prefix; newer files leave it out, older ones list the positions' numbers."""
    names = {name: name if name.startswith(PREFIX) else PREFIX + name for name in state}
    return {new: state[old] for old, new in names.items() if not new.endswith("position_ids")}


def from_diffusers_image(
    state: Mapping[str, Tensor], config: ImageConfig, dtype: Any = None
) -> dict[str, Any]:
    """The encoder's parameters from a published state.

    Raises ValueError naming tensors that are missing, unknown or of a wrong shape for the config.
    """
    leaves, state = image_leaves(config), vision_alone(state)
    check(state, leaves, "the image encoder's state")
    return gather(state, leaves, dtype)


def to_diffusers_image(params: Mapping[str, Any], config: ImageConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_image`: a state dict for `CLIPVisionModel`."""
    return scatter(params, image_leaves(config))
