"""A LoRA (arXiv 2106.09685) that teaches the playground's model one new thing: a crescent.

Data: `python experiments/draw_crescents.py --out crescents`: 1,200 clips, half of them with a crescent.
Attention and FFN, rank 16: 0.3 M trained numbers beside the frozen ones.
Hardware: 2 CPU cores; 1.2 steps/s at a matmul peak of 360 GFLOP/s, so 6.6 minutes.
Expected: crescents whole in 45 of 64 clips (1 before), one object of the model's own shapes in 56 of 64 (59 before).
Run:  sora-jax train experiments/train/playground_lora.py --workdir runs/playground_lora --start-from playground
      sora-jax eval playground --groups crescent one_object two_objects --count 100 --out before
      sora-jax eval playground --groups crescent one_object two_objects --count 100 --out after \
          --lora runs/playground_lora/weights
"""

from sora_jax.data.clips import ClipsConfig
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import MODELS
from sora_jax.models.lora import LoRAConfig
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.optimizer import OptimizerConfig

EXPERIMENT = FineTuneRun(
    model=MODELS["playground"],
    start_from="playground",
    lora=LoRAConfig(
        rank=16,
        alpha=16.0,
        targets=r"blocks/((self|cross)_attention/(query|key|value|out)|ffn_in|ffn_out)/kernel",
    ),
    data=ClipsConfig(folder="crescents", height=64, width=64, frames=17, fps=8.0, aspects=()),
    sigma=LogitNormal(std=1.2, shift=5.0),
    optimizer=OptimizerConfig(learning_rate=1e-3, warmup_steps=20, decay_fraction=0.5, weight_decay=0.0),
    steps=400,
    batch_size=32,
    ema_decay=0.98,
    checkpoint_every=100,
    sample_every=200,
    prompts=(
        "a red crescent moves right",
        "a blue crescent stays still",
        "a large yellow crescent bounces",
        "a green crescent moves up and a white square stays still",
        "a red circle moves right",
        "a blue star spins",
    ),
)
