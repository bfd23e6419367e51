"""Weights of transformers' `UMT5EncoderModel` and `T5EncoderModel` (`text_encoder/` of a diffusers folder) as
parameters of `sora_jax.models.text.TextEncoder`, and back.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sora_jax.models.text import TextConfig
from sora_jax.weights.layout import Leaf, Tensor, check, gather, leaf, scatter
from sora_jax.weights.shapes import parameter_shapes

# The input embedding is one tensor under two names, of which files carry one or both.
EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")
_BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
_BLOCK = {
    "attention/q/kernel": "layer.0.SelfAttention.q.weight",
    "attention/k/kernel": "layer.0.SelfAttention.k.weight",
    "attention/v/kernel": "layer.0.SelfAttention.v.weight",
    "attention/o/kernel": "layer.0.SelfAttention.o.weight",
    "ffn/gate/kernel": "layer.1.DenseReluDense.wi_0.weight",
    "ffn/up/kernel": "layer.1.DenseReluDense.wi_1.weight",
    "ffn/down/kernel": "layer.1.DenseReluDense.wo.weight",
    "attention_norm/scale": "layer.0.layer_norm.weight",
    "ffn_norm/scale": "layer.1.layer_norm.weight",
    "position_bias/table": _BIAS,
}
_WHOLE = {
    "embedding": EMBEDDING[0],
    "norm/scale": "encoder.final_layer_norm.weight",
    "position_bias/table": f"encoder.block.0.{_BIAS}",
}


def text_leaves(config: TextConfig) -> dict[str, Leaf]:
    """Where each parameter of `TextEncoder(config)` lies in the published state."""
    leaves = {}
    for path, shape in parameter_shapes(config).items():
        if path in _WHOLE:
            leaves[path] = leaf(shape, _WHOLE[path])
        else:
            name = "encoder.block.{}." + _BLOCK[path.removeprefix("blocks/")]
            leaves[path] = leaf(shape, name, (1, 0) if path.endswith("kernel") else None, depth=config.depth)
    return leaves


def encoder_alone(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors, the embedding under its first name; a decoder's are left out."""
    kept = {name: state[name] for name in state if not name.startswith(("decoder.", "lm_head."))}
    twin = kept.pop(EMBEDDING[1], None)
    if twin is not None:
        kept.setdefault(EMBEDDING[0], twin)
    return kept


def from_diffusers_text(state: Mapping[str, Tensor], config: TextConfig, dtype: Any = None) -> dict[str, Any]:
    """The encoder's parameters from a published state, by name; a decoder's tensors are left out.

    Raises ValueError naming tensors that are missing, unknown or of a wrong shape for the config.
    """
    leaves, state = text_leaves(config), encoder_alone(state)
    check(state, leaves, "the text encoder's state")
    return gather(state, leaves, dtype)


def to_diffusers_text(params: Mapping[str, Any], config: TextConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_text`: a state dict for `UMT5EncoderModel` or `T5EncoderModel`."""
    return scatter(params, text_leaves(config))
