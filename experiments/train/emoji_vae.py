"""The playground's VAE on real clips: animated emoji of 64x64 pixels.

Data: `experiments/fetch_emoji.py`, then `sora-jax data folder emoji --out emoji64 --short loop --test-fraction 0.1`;
no emoji of the test split is in the training split in another skin tone.
Hardware: 2 CPU cores with AMX, an hour and a half; 2.4 steps/s with JAX_NUM_CPU_DEVICES=2 and
JAX_DEFAULT_MATMUL_PRECISION=bfloat16, 1.7 on one core.
Expected: 27.3 dB on the first 64 clips of the test split, of a run whose learning rate fell three times: with
`--steps 4000` first (26.2 dB), then `--steps 8000` (26.9), then without.
Run:  sora-jax train experiments/train/emoji_vae.py --workdir runs/emoji_vae
"""

import dataclasses

from sora_jax.data.sources import DataConfig
from sora_jax.models.vae import VAE_PLAYGROUND
from sora_jax.train.optimizer import OptimizerConfig
from sora_jax.train.vae import VAELossConfig, VAERun

EXPERIMENT = VAERun(
    model=dataclasses.replace(VAE_PLAYGROUND, latent_channels=32, latent_mean=(), latent_std=()),
    data=DataConfig(path="emoji64", keep_in_memory=True),
    crop_size=32,
    crop_frames=None,
    loss=VAELossConfig(l1=1.0, l2=10.0, kl=1e-5),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=3e-3, warmup_steps=100, decay_fraction=0.5, weight_decay=0.0
    ),
    steps=12_000,
    batch_size=8,
    ema_decay=0.998,
    checkpoint_every=250,
    sample_every=500,
)
