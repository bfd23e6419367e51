"""Weights of transformers' `UMT5EncoderModel` and `T5EncoderModel` (`text_encoder/` of a diffusers folder) as
parameters of `sora_jax.models.text.TextEncoder`.

Torch keeps a dense kernel as [out, in]; here it is [in, out], and a layer's tensors are stacked over the
layers.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from sora_jax.models.text import TextConfig
from sora_jax.weights.tensors import check_shapes

# The input embedding is one tensor under two names, of which files carry one or both.
_EMBEDDING = ("shared.weight", "encoder.embed_tokens.weight")
_BIAS = "layer.0.SelfAttention.relative_attention_bias.weight"
_KERNELS = {
    ("attention", "q"): "layer.0.SelfAttention.q.weight",
    ("attention", "k"): "layer.0.SelfAttention.k.weight",
    ("attention", "v"): "layer.0.SelfAttention.v.weight",
    ("attention", "o"): "layer.0.SelfAttention.o.weight",
    ("ffn", "gate"): "layer.1.DenseReluDense.wi_0.weight",
    ("ffn", "up"): "layer.1.DenseReluDense.wi_1.weight",
    ("ffn", "down"): "layer.1.DenseReluDense.wo.weight",
}
_NORMS = {"attention_norm": "layer.0.layer_norm.weight", "ffn_norm": "layer.1.layer_norm.weight"}


def published_shapes(config: TextConfig) -> dict[str, tuple[int, ...]]:
    """The published names and shapes of the encoder's tensors, without the embedding's second name."""
    inner = config.heads * config.head_width
    shapes = {
        "q": (inner, config.width),
        "k": (inner, config.width),
        "v": (inner, config.width),
        "o": (config.width, inner),
        "gate": (config.ffn_width, config.width),
        "up": (config.ffn_width, config.width),
        "down": (config.width, config.ffn_width),
    }
    published = {
        _EMBEDDING[0]: (config.vocab, config.width),
        "encoder.final_layer_norm.weight": (config.width,),
    }
    for layer in range(config.depth):
        block = f"encoder.block.{layer}."
        published |= {block + name: shapes[place[1]] for place, name in _KERNELS.items()}
        published |= {block + name: (config.width,) for name in _NORMS.values()}
        if layer == 0 or not config.shared_bias:
            published[block + _BIAS] = (config.buckets, config.heads)
    return published


def from_diffusers_text(state: Mapping[str, np.ndarray], config: TextConfig) -> dict[str, Any]:
    """The encoder's parameters from a published state, by name; a decoder's tensors are left out.

    Raises ValueError naming tensors that are missing, unknown or of a wrong shape for the config.
    """
    state = {name: array for name, array in state.items() if not name.startswith(("decoder.", "lm_head."))}
    twin = state.pop(_EMBEDDING[1], None)
    if twin is not None:
        state.setdefault(_EMBEDDING[0], twin)
    found = {name: tuple(array.shape) for name, array in state.items()}
    check_shapes(found, published_shapes(config), "the text encoder's state")

    def layers(name: str) -> list[np.ndarray]:
        return [np.asarray(state[f"encoder.block.{layer}.{name}"]) for layer in range(config.depth)]

    blocks: dict[str, Any] = {"attention": {}, "ffn": {}}
    for (module, kernel), name in _KERNELS.items():
        blocks[module][kernel] = {"kernel": np.stack([weight.T for weight in layers(name)])}
    for module, name in _NORMS.items():
        blocks[module] = {"scale": np.stack(layers(name))}
    params = {
        "embedding": np.asarray(state[_EMBEDDING[0]]),
        "blocks": blocks,
        "norm": {"scale": np.asarray(state["encoder.final_layer_norm.weight"])},
    }
    if config.shared_bias:
        params["position_bias"] = {"table": np.asarray(state[f"encoder.block.0.{_BIAS}"])}
    else:
        blocks["position_bias"] = {"table": np.stack(layers(_BIAS))}
    return params


def to_diffusers_text(params: Mapping[str, Any], config: TextConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_text`: a state dict for `UMT5EncoderModel` or `T5EncoderModel`."""
    blocks = params["blocks"]
    stacked = {name: blocks[module][kernel]["kernel"] for (module, kernel), name in _KERNELS.items()}
    stacked = {name: np.asarray(kernels).swapaxes(1, 2) for name, kernels in stacked.items()}
    stacked |= {name: np.asarray(blocks[module]["scale"]) for module, name in _NORMS.items()}
    tables = np.asarray(params["position_bias"]["table"])[None] if config.shared_bias else None
    stacked[_BIAS] = np.asarray(blocks["position_bias"]["table"]) if tables is None else tables
    state = {
        f"encoder.block.{layer}.{name}": np.ascontiguousarray(array)
        for name, arrays in stacked.items()
        for layer, array in enumerate(arrays)
    }
    state[_EMBEDDING[0]] = np.asarray(params["embedding"])
    state["encoder.final_layer_norm.weight"] = np.asarray(params["norm"]["scale"])
    return state
