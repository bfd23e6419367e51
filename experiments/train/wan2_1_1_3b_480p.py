"""All of Wan 2.1 T2V 1.3B's denoiser (arXiv 2503.20314) on 81 frames at 480p: 32,760 tokens a clip.

Data: `clips/`, videos with `name.txt` beside them, in one size; latents and UMT5's features are computed once and kept
(`--cache`, on a disk that all hosts share).
Hardware: v6e-16. Each chip holds a sixteenth of the parameters, moving average and moments, and one clip.
Expected: docs/planning.md has what the plan bounds; nothing was run on chips.
Plan: sora-jax plan experiments/train/wan2_1_1_3b_480p.py --topology v6e-16
Run:  sora-jax train experiments/train/wan2_1_1_3b_480p.py --workdir runs/wan_480p --distributed \
          --start-from Wan2.1-T2V-1.3B-Diffusers --data.folder clips
"""

from sora_jax.data.clips import ClipsConfig
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.parallel import MeshConfig
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = FineTuneRun(
    model=MODELS["wan2_1_t2v_1_3b"],
    start_from="Wan2.1-T2V-1.3B-Diffusers",
    data=ClipsConfig(folder="clips", height=480, width=832, frames=81, aspects=()),
    sigma=LogitNormal(shift=3.0),
    dtype="bfloat16",
    optimizer=OptimizerConfig(learning_rate=2e-5, warmup_steps=500, decay_fraction=0.2, weight_decay=0.01),
    mesh=MeshConfig(data=1, fsdp=16),
    steps=20_000,
    batch_size=16,
    ema_decay=0.9995,
    checkpoint_every=500,
    sample_every=2_000,
)
