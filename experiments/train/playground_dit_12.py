"""The playground's denoiser on 12 latent channels in place of 32: 48 entries a token, not 128.

Otherwise `playground_dit.py`, with more images. Not what is shipped yet: docs/playground.md has how far it came.
Hardware: 2 CPU cores; 0.65 steps/s at a matmul peak of 90 GFLOP/s, so 3.7 hours.
Run:  sora-jax train experiments/train/playground_vae.py --workdir runs/playground_vae
      sora-jax train experiments/train/playground_decoder.py --workdir runs/playground_decoder
      sora-jax train experiments/train/playground_dit_12.py --workdir runs/playground_dit_12
"""

import dataclasses
from pathlib import Path

from sora_jax.evals.runs import load_experiment
from sora_jax.train.dit import DiTRun, Images

_WIDE = load_experiment(Path(__file__).with_name("playground_dit.py"))
assert isinstance(_WIDE, DiTRun)

EXPERIMENT = dataclasses.replace(
    _WIDE,
    model=dataclasses.replace(
        _WIDE.model,
        vae=dataclasses.replace(_WIDE.model.vae, latent_channels=12, latent_mean=(), latent_std=()),
        dit=dataclasses.replace(_WIDE.model.dit, in_channels=12, out_channels=12),
    ),
    vae="runs/playground_decoder/weights",
    images=Images(share=0.3, per_clip=3, count=128_000),
)
