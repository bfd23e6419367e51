"""As wan2_1_14b_720p.py, on the four chips of a v5p-8, where little more than the weights has room.

Data: as there.
Hardware: v5p-8, four chips that hold one clip together. Parameters, second moments and a momentum in bfloat16 are
143 GB; no moving average is kept, and everything is computed again.
Expected: docs/planning.md has what the plan bounds; nothing was run on chips.
Plan: sora-jax plan experiments/train/wan2_1_14b_four_chips.py --topology v5p-8
Run:  sora-jax train experiments/train/wan2_1_14b_four_chips.py --workdir runs/wan_720p --distributed \
          --start-from Wan2.1-T2V-14B-Diffusers --data.folder clips
"""

from sora_jax.data.clips import ClipsConfig
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.parallel import MeshConfig
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = FineTuneRun(
    model=MODELS["wan2_1_t2v_14b"],
    start_from="Wan2.1-T2V-14B-Diffusers",
    data=ClipsConfig(folder="clips", height=720, width=1280, frames=81, aspects=()),
    sigma=LogitNormal(shift=5.0),
    dtype="bfloat16",
    optimizer=OptimizerConfig(
        learning_rate=1e-5,
        warmup_steps=500,
        decay_fraction=0.2,
        weight_decay=0.01,
        momentum_dtype="bfloat16",
    ),
    mesh=MeshConfig(data=1, fsdp=1, context=4),
    steps=20_000,
    batch_size=1,
    ema_decay=0.0,
    checkpoint_every=250,
    sample_every=2_000,
)
