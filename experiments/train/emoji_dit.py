"""The playground's denoiser and text encoder on real captioned clips: animated emoji of 64x64 pixels.

Data: as in emoji_vae.py, encoded once by the VAE that it trains; of an emoji's name and tags a caption each epoch.
Hardware: one CPU core with AMX and JAX_DEFAULT_MATMUL_PRECISION=bfloat16, 0.46 steps/s, so three quarters of an hour.
Expected: docs/real_clips.md.
Run:  sora-jax train experiments/train/emoji_vae.py --workdir runs/emoji_vae
      sora-jax train experiments/train/emoji_dit.py --workdir runs/emoji_dit
"""

from sora_jax.data.sources import DataConfig
from sora_jax.diffusion.levels import TEXT_TO_VIDEO
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.train.dit import DiTRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = DiTRun(
    model=MODELS["playground"],
    vae="runs/emoji_vae/weights",
    data=DataConfig(path="emoji64"),
    levels=TEXT_TO_VIDEO,
    sigma=LogitNormal(std=1.4, shift=4.0),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=2e-3, warmup_steps=100, decay_fraction=0.5, weight_decay=0.01
    ),
    steps=1_300,
    batch_size=48,
    ema_decay=0.998,
    checkpoint_every=250,
    sample_every=650,
)
