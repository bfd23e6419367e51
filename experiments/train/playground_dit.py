"""The playground's denoiser and text encoder: Wan's DiT (arXiv 2503.20314), 80 tokens a clip, 16 an image.

Data: playground scenes with short and long captions, half of them of what is learnt last, encoded once by its VAE.
Three in ten steps are on images, a quarter on clips of four other sizes.
Every latent frame has its own noise level (arXiv 2407.01392), and three in ten clips have known frames or boxes.
Hardware: 2 CPU cores; 0.55 steps/s at a matmul peak of 360 GFLOP/s, so 4.3 hours, with JAX_NUM_CPU_DEVICES=2,
which makes two devices of the cores and is a tenth faster; with AMX, JAX_DEFAULT_MATMUL_PRECISION=bfloat16 helps too.
Expected: docs/playground.md, which has what the shipped weights went through before their last 5,200 steps.
Run:  sora-jax train experiments/train/playground_vae.py --workdir runs/playground_vae
      sora-jax train experiments/train/playground_decoder.py --workdir runs/playground_decoder
      sora-jax train experiments/train/playground_dit.py --workdir runs/playground_dit
"""

from sora_jax.data.sources import DataConfig
from sora_jax.diffusion.levels import LevelMix
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.train.dit import DiTRun, Size
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = DiTRun(
    model=MODELS["playground"],
    vae="runs/playground_decoder/weights",
    data=DataConfig(count=24_000, hard=0.5),
    sizes=(
        Size(frames=1, share=0.3, batch_size=192, count=65_536),
        Size(height=96, width=96, share=0.06, batch_size=28, count=3_000),
        Size(height=64, width=112, share=0.06, batch_size=36, count=3_000),
        Size(height=112, width=64, share=0.06, batch_size=36, count=3_000),
        Size(frames=33, share=0.06, batch_size=36, count=3_000),
    ),
    # Of a hundred captions one is longer.
    caption_tokens=40,
    levels=LevelMix(
        nothing=0.69,
        head=0.09,
        tail=0.04,
        ends=0.07,
        frames=0.04,
        window=0.03,
        inside=0.02,
        outside=0.02,
        together=0.85,
        independent=0.08,
        rising=0.07,
    ),
    # Few numbers make up a scene, so it shows through the noise: clips that are noised to 0.55 and made again keep
    # their shapes (but for what spins), and what a scene is is decided above that.
    sigma=LogitNormal(std=1.2, shift=4.0),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=2e-3, warmup_steps=100, decay_fraction=0.45, weight_decay=0.01
    ),
    steps=8_560,
    # The gradient's noise is as large as the gradient at about 60 clips or images (arXiv 1812.06162).
    batch_size=64,
    accumulate=4,
    ema_decay=0.998,
    checkpoint_every=500,
    sample_every=1_000,
)
