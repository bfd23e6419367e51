"""All of Wan 2.1 T2V 14B's denoiser (arXiv 2503.20314) on 81 frames at 720p: 75,600 tokens a clip.

Data: `clips/`, videos with `name.txt` beside them, in one size; latents and UMT5's features are computed once and kept
(`--cache`, on a disk that all hosts share). Parameters, EMA and AdamW's moments are 229 GB, cut over all chips.
Hardware: v5p:4x4x4, 64 chips. Two chips hold a clip, half of its tokens each, and exchange tokens for heads.
Expected: docs/planning.md has what the plan bounds; nothing was run on chips.
Plan: sora-jax plan experiments/train/wan2_1_14b_720p.py --topology v5p:4x4x4
Run:  sora-jax train experiments/train/wan2_1_14b_720p.py --workdir runs/wan_720p --distributed \
          --start-from Wan2.1-T2V-14B-Diffusers --data.folder clips
"""

import dataclasses

from sora_jax.data.clips import ClipsConfig
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.parallel import MeshConfig
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.optimizer import OptimizerConfig

MODEL = MODELS["wan2_1_t2v_14b"]

EXPERIMENT = FineTuneRun(
    # Attention is three quarters of the work, and what it leaves behind fits: only the rest is computed again.
    model=dataclasses.replace(MODEL, dit=dataclasses.replace(MODEL.dit, remat="attention")),
    start_from="Wan2.1-T2V-14B-Diffusers",
    data=ClipsConfig(folder="clips", height=720, width=1280, frames=81, aspects=()),
    sigma=LogitNormal(shift=5.0),
    dtype="bfloat16",
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=500, decay_fraction=0.2, weight_decay=0.01),
    mesh=MeshConfig(data=1, fsdp=32, context=2),
    steps=20_000,
    batch_size=32,
    ema_decay=0.9995,
    checkpoint_every=250,
    sample_every=2_000,
)
