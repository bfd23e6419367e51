"""The playground's denoiser and text encoder: Wan's DiT (arXiv 2503.20314), 80 tokens a clip.

Data: playground scenes with short and long captions, encoded once by the playground VAE.
Every latent frame has its own noise level (arXiv 2407.01392), and 20 % of the samples have known frames.
Hardware: 2 CPU cores; 0.5 steps/s at a matmul peak of 140 GFLOP/s, so more than 4 hours.
Expected: not known yet, no run has been finished.
Run:  sora-jax train experiments/train/playground_vae.py --workdir runs/playground_vae
      sora-jax train experiments/train/playground_dit.py --workdir runs/playground_dit
"""

from sora_jax.data.sources import DataConfig
from sora_jax.diffusion.levels import LevelMix
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.train.dit import DiTRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = DiTRun(
    model=MODELS["playground"],
    vae="runs/playground_vae/weights",
    data=DataConfig(count=16_000),
    levels=LevelMix(
        nothing=0.8,
        head=0.06,
        tail=0.03,
        ends=0.04,
        frames=0.04,
        window=0.03,
        inside=0.0,
        outside=0.0,
        together=0.85,
        independent=0.08,
        rising=0.07,
    ),
    # Few numbers make up a scene, so it shows through the noise till late: what it is is decided at high levels.
    sigma=LogitNormal(std=1.4, shift=4.0),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=2e-3, warmup_steps=100, decay_fraction=0.5, weight_decay=0.01
    ),
    steps=8_000,
    batch_size=48,
    ema_decay=0.999,
    checkpoint_every=500,
    sample_every=1_000,
)
