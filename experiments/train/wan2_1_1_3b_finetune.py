"""All of Wan 2.1 T2V 1.3B's denoiser (arXiv 2503.20314), fine-tuned on a folder of clips and captions.

Data: `my_clips/`, videos with `name.txt` beside them; thousands of them, where a LoRA of tens no longer learns more.
Parameters, EMA and AdamW's two moments in float32 are 23 GB, cut over 8 devices; the text encoder and the VAE are run
once over the data. UMT5-XXL is read to the host's memory first: 23 GB in float32.
Hardware: 8 devices of 40 GB or more in one machine.
Expected: the loss falls little (levels differ from draw to draw); look at what it draws. On 8 H100s about a day for
10,000 steps of 81 frames, by the FLOPs at 40 % of the peak: an estimate, not measured.
Run:  sora-jax train experiments/train/wan2_1_1_3b_finetune.py --workdir runs/my_wan \
          --start-from Wan2.1-T2V-1.3B-Diffusers --data.folder my_clips
      sora-jax generate "..." --model runs/my_wan/weights
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
    data=ClipsConfig(folder="my_clips", height=480, width=832, frames=81, lengths=(41,)),
    sigma=LogitNormal(shift=3.0),
    dtype="bfloat16",
    optimizer=OptimizerConfig(learning_rate=1e-5, warmup_steps=200, decay_fraction=0.2, weight_decay=0.01),
    mesh=MeshConfig(data=1, fsdp=8),
    steps=10_000,
    batch_size=8,
    ema_decay=0.999,
    checkpoint_every=500,
    sample_every=1_000,
)
