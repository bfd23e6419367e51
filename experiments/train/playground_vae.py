"""The playground's causal 3D VAE: 4x8x8 pixels into 32 channels, with the shortcuts of Wan 2.2.

`playground_decoder.py` comes after it, and keeps the 12 channels that show.

Data: playground scenes, whole in time, windows of 32x32 pixels. Muon (arXiv 2502.16982) on all kernels.
Hardware: 2 CPU cores; 1.8 steps/s at a matmul peak of 150 GFLOP/s, so an hour.
Expected: 36.7 dB on unseen clips, of a run whose learning rate fell twice, to step 3,000 (35.0 dB) and to 6,000.
Run:  sora-jax train experiments/train/playground_vae.py --workdir runs/playground_vae
"""

import dataclasses

from sora_jax.data.sources import DataConfig
from sora_jax.models.vae import VAE_PLAYGROUND
from sora_jax.train.optimizer import OptimizerConfig
from sora_jax.train.vae import VAELossConfig, VAERun

EXPERIMENT = VAERun(
    model=dataclasses.replace(VAE_PLAYGROUND, latent_channels=32, latent_mean=(), latent_std=()),
    data=DataConfig(count=8_000, keep_in_memory=True),
    crop_size=32,
    crop_frames=None,
    loss=VAELossConfig(l1=1.0, l2=10.0, kl=1e-5),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=3e-3, warmup_steps=100, decay_fraction=0.5, weight_decay=0.0
    ),
    steps=6_000,
    batch_size=8,
    ema_decay=0.998,
    checkpoint_every=250,
    sample_every=500,
)
