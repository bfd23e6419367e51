"""Writes text_umt5.safetensors and text_t5.safetensors: small reference encoders with random weights, and
what they gave. Needs the [parity] extra:

    PYTHONPATH=tests/models python tests/models/reference/make_text.py
"""

from pathlib import Path

import numpy as np
import torch
from reference.text_stages import CONFIGS
from safetensors.numpy import save_file
from transformers import T5Config, T5EncoderModel, UMT5Config, UMT5EncoderModel

from sora_jax.models.text import TextConfig


def build(kind: str, config: TextConfig) -> torch.nn.Module:
    """transformers' encoder of the config's sizes: kind "umt5" or "t5"."""
    options = {
        "vocab_size": config.vocab,
        "d_model": config.width,
        "num_layers": config.depth,
        "num_heads": config.heads,
        "d_kv": config.head_width,
        "d_ff": config.ffn_width,
        "relative_attention_num_buckets": config.buckets,
        "relative_attention_max_distance": config.max_distance,
        "layer_norm_epsilon": config.eps,
        "feed_forward_proj": "gated-gelu",
        "attn_implementation": "eager",
    }
    if kind == "t5":
        return T5EncoderModel(T5Config(**options)).eval()
    return UMT5EncoderModel(UMT5Config(**options)).eval()


@torch.no_grad()
def record(kind: str, config: TextConfig, lengths: list[int], seed: int = 0) -> dict[str, np.ndarray]:
    """Weights, inputs and stages of a random reference; prompts of `lengths` tokens are padded."""
    torch.manual_seed(seed)
    model = build(kind, config)
    for parameter in model.parameters():  # norms of all ones and biases near 0 would hide mistakes
        parameter.copy_(
            torch.randn_like(parameter) * (0.5 if parameter.ndim == 1 else parameter.shape[-1] ** -0.5)
        )
    batch, length = len(lengths), max(lengths)
    ids = torch.randint(config.vocab, (batch, length))
    mask = torch.arange(length)[None] < torch.tensor(lengths)[:, None]
    x = torch.randn(batch, length, config.width)
    block = model.encoder.block[0]
    attention, blocked = block.layer[0].SelfAttention, torch.where(mask, 0.0, -1e30)[:, None, None]
    named = {"mask" if kind == "t5" else "attention_mask": blocked}
    distance = torch.arange(300) - 150
    state = model.state_dict()
    found = {
        "ids": ids.int(),
        "mask": mask,
        "x": x,
        "output": model(input_ids=ids, attention_mask=mask.long()).last_hidden_state,
        "attention": attention(x, **named)[0],
        "ffn": block.layer[1].DenseReluDense(x),
        "norm": block.layer[0].layer_norm(x),
        "bias": attention.compute_bias(length, length)[0],
        "buckets": buckets(attention, kind, distance, config).int(),
    }
    found |= {f"state/{name}": value for name, value in state.items() if "embed_tokens" not in name}
    return {name: np.ascontiguousarray(value.numpy()) for name, value in found.items()}


def buckets(attention, kind, distance, config):
    if kind == "umt5":
        return attention._relative_position_bucket(distance)
    return attention._relative_position_bucket(
        distance, num_buckets=config.buckets, max_distance=config.max_distance
    )


if __name__ == "__main__":
    for kind, config in CONFIGS.items():
        save_file(record(kind, config, [19, 7, 1]), Path(__file__).parent / f"text_{kind}.safetensors")
