"""The published models' families at toy sizes, with random weights: one config of each kind of network."""

import dataclasses
import functools

import jax
import numpy as np

from sora_jax.models.config import ModelConfig, SamplingDefaults
from sora_jax.models.dit import DiTConfig
from sora_jax.models.image import ImageConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.weights import Checkpoint, abstract_params

_DIT = DiTConfig(
    in_channels=4,
    out_channels=4,
    width=24,
    depth=2,
    heads=2,
    ffn_width=40,
    text_width=16,
    freq_width=12,
    remat="full",
)
# 4 of the noise, 2 of the mask (the VAE's temporal factor), 4 of the image's latents.
_BESIDE = dataclasses.replace(_DIT, in_channels=10)
_IMAGE = ImageConfig(width=12, depth=2, heads=2, ffn_width=20, patch=4, size=8)

WORDS = ModelConfig(
    name="wan",
    dit=_DIT,
    vae=VAEConfig(
        base_width=8,
        decoder_width=8,
        latent_channels=4,
        multipliers=(1, 2),
        res_blocks=1,
        temporal_downsample=(True,),
        latent_mean=(0.1, -0.2, 0.3, 0.0),
        latent_std=(1.5, 0.5, 1.0, 2.0),
    ),
    text=TextConfig(vocab=512, width=16, depth=2, heads=2, head_width=6, ffn_width=24),
    known_frames=False,
    flow_shift=3.0,
    mask_text=False,
    defaults=SamplingDefaults(steps=3, guidance=2.5, height=8, width=12, frames=5, fps=8.0),
)


def _like(base: ModelConfig, dit: DiTConfig = _DIT, **changes) -> ModelConfig:
    return dataclasses.replace(base, dit=dit, **changes)


CONFIGS = {
    "words": WORDS,
    "first frame known": _like(WORDS, known_frames=True),
    "image tokens": _like(WORDS, dataclasses.replace(_BESIDE, image_width=12), image=_IMAGE),
    "two images": _like(
        WORDS, dataclasses.replace(_BESIDE, image_width=12, image_positions=10), image=_IMAGE
    ),
    "experts": _like(WORDS, boundary_ratio=0.875),
    "image beside, experts": _like(WORDS, _BESIDE, boundary_ratio=0.9),
}
"""As Wan 2.1 T2V; 2.2 TI2V; 2.1 I2V; 2.1 FLF2V; 2.2 T2V A14B; 2.2 I2V A14B."""

_KEEPING = dataclasses.replace(
    WORDS.vae,
    multipliers=(1, 2, 2),
    temporal_downsample=(True, True),
    spatial_downsample=(True, False),
    residual_shortcuts=True,
    patch_size=2,
)
_OWN_TEXT = dataclasses.replace(WORDS.text, max_length=24)
OURS = {
    "all of the playground's": _like(
        WORDS,
        dataclasses.replace(_DIT, neighbours=True, prediction="preconditioned"),
        vae=_KEEPING,
        text=_OWN_TEXT,
        known_frames=True,
        mask_text=True,
        defaults=dataclasses.replace(WORDS.defaults, height=16, width=24),
    ),
    "a denoiser, levels of clips": _like(
        WORDS,
        dataclasses.replace(_DIT, heads=3, depth=1, prediction="preconditioned", patch=(1, 2, 4)),
        mask_text=True,
        defaults=dataclasses.replace(WORDS.defaults, height=8, width=16),
    ),
}
"""More than diffusers' own networks are."""
BROUGHT = {
    "all of the playground's": ["sora_transformer.py", "sora_autoencoder.py"],
    "a denoiser, levels of clips": ["sora_transformer.py"],
}
"""The modules that lie beside their weights, by folder."""


@functools.cache
def checkpoint(kind: str) -> Checkpoint:
    return random_checkpoint(CONFIGS[kind])


def random_checkpoint(config: ModelConfig) -> Checkpoint:
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), abstract_params(config)
    )
    words = train_tokenizer(["a red circle moves right", "a blue star spins"], 512)
    return Checkpoint(config=config, params=params, tokenizer=Tokenizer(words, config.text.max_length))


def picture(seed: int = 0, height: int = 8, width: int = 12) -> np.ndarray:
    """uint8 [h, w, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
