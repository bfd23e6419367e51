"""A model of random weights, small enough to sample in a test, that shares the playground's code and words."""

import dataclasses
import functools
from pathlib import Path

import jax
import numpy as np

from sora_jax.models.config import ModelConfig, SamplingDefaults
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.weights import Checkpoint, abstract_params, save

CONFIG = ModelConfig(
    name="playground_tiny",
    dit=DiTConfig(
        in_channels=6,
        out_channels=6,
        patch=(1, 1, 1),
        width=16,
        depth=2,
        heads=2,
        ffn_width=16,
        text_width=8,
        freq_width=8,
    ),
    vae=VAEConfig(
        base_width=8,
        decoder_width=8,
        latent_channels=6,
        multipliers=(1, 2),
        res_blocks=1,
        temporal_downsample=(True,),
        residual_shortcuts=True,
        patch_size=4,
    ),
    text=TextConfig(vocab=512, width=8, depth=1, heads=2, head_width=4, ffn_width=8, max_length=16),
    flow_shift=1.0,
    defaults=SamplingDefaults(steps=3, guidance=2.0, height=16, width=16, frames=5, fps=8.0),
)
CAPTIONS = ["a red circle moves right", "a blue star spins", "a green square stays still"]


@functools.cache
def checkpoint() -> Checkpoint:
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), abstract_params(CONFIG)
    )
    return Checkpoint(config=CONFIG, params=params, tokenizer=Tokenizer(train_tokenizer(CAPTIONS, 512), 16))


def write(folder: Path, **defaults) -> Path:
    """Saves the model; `defaults` replace some of its sampling defaults."""
    config = dataclasses.replace(CONFIG, defaults=dataclasses.replace(CONFIG.defaults, **defaults))
    return save(folder, dataclasses.replace(checkpoint(), config=config))
