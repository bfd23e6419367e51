"""A longer look for the emoji VAE's decoder alone: the latents stay what they are, and cost nothing to go on with.

Data: as in emoji_vae.py.
Hardware: one CPU core with AMX, 2.3 steps/s, beside another run on the other.
Expected: docs/real_clips.md; 27.1 dB on the first 64 clips of the test split.
Run:  sora-jax train experiments/train/emoji_vae.py --workdir runs/emoji_vae
      sora-jax train experiments/train/emoji_decoder.py --workdir runs/emoji_decoder
"""

import dataclasses

from sora_jax.data.sources import DataConfig
from sora_jax.models.vae import VAE_PLAYGROUND
from sora_jax.train.optimizer import OptimizerConfig
from sora_jax.train.vae import VAELossConfig, VAERun

EXPERIMENT = VAERun(
    model=dataclasses.replace(VAE_PLAYGROUND, latent_channels=32, latent_mean=(), latent_std=()),
    start="runs/emoji_vae/weights",
    train_encoder=False,
    data=DataConfig(path="emoji64", keep_in_memory=True),
    crop_size=32,
    crop_frames=None,
    loss=VAELossConfig(l1=1.0, l2=10.0),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=1.5e-3, warmup_steps=50, decay_fraction=0.7, weight_decay=0.0
    ),
    steps=3_000,
    batch_size=8,
    ema_decay=0.995,
    checkpoint_every=250,
    sample_every=500,
)
