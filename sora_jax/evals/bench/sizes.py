"""The models that are measured: every named one, and one of 100 million parameters in between, with random weights.

Speed doesn't depend on what the weights are.
"""

from typing import Any

import numpy as np

from sora_jax.models.config import MODELS, ModelConfig, SamplingDefaults
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.models.vae import VAE_WAN2_1
from sora_jax.weights import Checkpoint, abstract_params

__all__ = ["PROMPT", "SIZES", "random_checkpoint", "random_params", "sized", "tokens"]

PROMPT = "a red circle moves right"

SIZE_100M = ModelConfig(
    name="100m",
    dit=DiTConfig(
        in_channels=16,
        out_channels=16,
        width=768,
        depth=10,
        heads=12,
        ffn_width=3072,
        text_width=512,
        remat="dots",
    ),
    vae=VAE_WAN2_1,
    text=TextConfig(vocab=4096, width=512, depth=4, heads=8, head_width=64, ffn_width=1024, max_length=64),
    flow_shift=3.0,
    defaults=SamplingDefaults(height=256, width=256, frames=9, fps=16.0),
)
"""Wan's network with 100 million parameters in the denoiser (99.6), and Wan 2.1's VAE: small enough for a laptop, with
products as large as they are in the published sizes. It is measured, not trained: nothing ships in this size."""

SIZES: dict[str, ModelConfig] = {**MODELS, SIZE_100M.name: SIZE_100M}


def sized(name: str) -> ModelConfig:
    """The config of that name. ValueError, with the names there are, for another."""
    if name not in SIZES:
        raise ValueError(f"there is no size {name!r}: choose one of {', '.join(SIZES)}.")
    return SIZES[name]


def random_params(shapes: Any, seed: int = 0) -> Any:
    """A tree of small random numbers, float32, in the shapes of a tree; a network of them stays finite."""
    import jax

    rng = np.random.default_rng(seed)
    # Uniform: a normal draw of 100 million takes seconds.
    return jax.tree.map(lambda leaf: 0.07 * (rng.random(leaf.shape, np.float32) - 0.5), shapes)


def random_checkpoint(config: ModelConfig) -> Checkpoint:
    """A model of random weights, with a tokenizer of a few words."""
    words = Tokenizer(train_tokenizer([PROMPT], 512), config.text.max_length)
    return Checkpoint(config=config, params=random_params(abstract_params(config)), tokenizer=words)


def tokens(config: ModelConfig, frames: int, height: int, width: int) -> int:
    """Tokens that the denoiser has of one clip."""
    shape = config.vae.latent_shape(frames, height, width)
    return int(np.prod([size // patch for size, patch in zip(shape, config.dit.patch, strict=False)]))
