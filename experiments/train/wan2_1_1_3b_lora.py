"""A LoRA (arXiv 2106.09685) for Wan 2.1 T2V 1.3B (arXiv 2503.20314) from a folder of clips and captions.

Data: `my_clips/`, videos with `name.txt` beside them; 20 to 200 clips of one subject, style or motion.
Attention's projections, rank 32: 24 M trained numbers; the denoiser's kernels are frozen in bfloat16.
Hardware: one device of 40 GB or more. UMT5-XXL (5.7 B parameters) is only run once, over the captions, and is read to
the host's memory first: 23 GB in float32.
Expected: the loss falls little (levels differ from draw to draw); look at what it draws. On one H100 about 3 hours for
2,000 steps of 33 frames, by the FLOPs at 40 % of the peak: an estimate, not measured.
Run:  sora-jax train experiments/train/wan2_1_1_3b_lora.py --workdir runs/my_lora \
          --start-from Wan2.1-T2V-1.3B-Diffusers --data.folder my_clips
      sora-jax generate "..." --model Wan2.1-T2V-1.3B-Diffusers --lora runs/my_lora/weights:0.8
"""

from sora_jax.data.clips import ClipsConfig
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.models.lora import LoRAConfig
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = FineTuneRun(
    model=MODELS["wan2_1_t2v_1_3b"],
    start_from="Wan2.1-T2V-1.3B-Diffusers",
    lora=LoRAConfig(rank=32, alpha=32.0),
    data=ClipsConfig(folder="my_clips", height=480, width=832, frames=33, lengths=(17,)),
    # The shift that the model samples with at this size, so that it is trained where it is used.
    sigma=LogitNormal(shift=3.0),
    dtype="bfloat16",
    optimizer=OptimizerConfig(learning_rate=1e-4, warmup_steps=50, decay_fraction=0.2, weight_decay=0.0),
    steps=2_000,
    batch_size=2,
    accumulate=2,
    ema_decay=0.99,
    checkpoint_every=250,
    sample_every=250,
)
