"""The playground's denoiser and text encoder: Wan's DiT (arXiv 2503.20314), 80 tokens of 48 channels a clip.

Data: playground scenes with short and long captions, encoded once by the playground VAE.
Every latent frame has its own noise level (arXiv 2407.01392), and 30 % of the samples have known frames.
Hardware: 2 CPU cores.
Run:  sora-jax train experiments/train/playground_vae.py --workdir runs/playground_vae
      sora-jax train experiments/train/playground_dit.py --workdir runs/playground_dit
"""

from sora_jax.data.sources import DataConfig
from sora_jax.diffusion.levels import LevelMix
from sora_jax.models.config import MODELS
from sora_jax.train.dit import DiTRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = DiTRun(
    model=MODELS["playground"],
    vae="runs/playground_vae/weights",
    data=DataConfig(count=16_000),
    levels=LevelMix(
        nothing=0.7,
        head=0.1,
        tail=0.05,
        ends=0.05,
        frames=0.05,
        window=0.05,
        inside=0.0,
        outside=0.0,
        together=0.85,
        independent=0.08,
        rising=0.07,
    ),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=200, decay_fraction=0.6, weight_decay=0.01),
    steps=12_000,
    batch_size=32,
    ema_decay=0.999,
    checkpoint_every=500,
    sample_every=1_000,
)
