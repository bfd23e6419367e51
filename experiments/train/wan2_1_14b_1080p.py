"""All of Wan 2.1 T2V 14B's denoiser (arXiv 2503.20314) on 241 frames at 1080p: 497,760 tokens a clip, fifteen seconds.

Data: `clips/`, videos with `name.txt` beside them, in one size; latents and UMT5's features are computed once and kept
(`--cache`, on a disk that all hosts share). 1080 rows are no whole number of tokens, so clips have 1,088.
Hardware: v5p-512, 256 chips. Sixteen chips hold a clip: eight exchange tokens for heads, five of 40 heads each, and two
such groups are joined by a ring.
Expected: docs/planning.md has what the plan bounds; nothing was run on chips.
Plan: sora-jax plan experiments/train/wan2_1_14b_1080p.py --topology v5p-512
Run:  sora-jax train experiments/train/wan2_1_14b_1080p.py --workdir runs/wan_1080p --distributed \
          --start-from runs/wan_720p/weights --data.folder clips
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
    # Attention is nine tenths of the work, and what it leaves behind fits: only the rest is computed again.
    model=dataclasses.replace(MODEL, dit=dataclasses.replace(MODEL.dit, remat="attention")),
    start_from="Wan2.1-T2V-14B-Diffusers",
    data=ClipsConfig(folder="clips", height=1088, width=1920, frames=241, aspects=()),
    # Longer clips show through more noise: the shift grows with the root of the tokens (arXiv 2403.03206), 5 at 75,600.
    sigma=LogitNormal(shift=12.8),
    dtype="bfloat16",
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=500, decay_fraction=0.2, weight_decay=0.01),
    mesh=MeshConfig(data=1, fsdp=16, context=16),
    steps=10_000,
    batch_size=16,
    ema_decay=0.999,
    checkpoint_every=100,
    sample_every=500,
)
