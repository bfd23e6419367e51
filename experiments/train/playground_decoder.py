"""A smaller code for the playground: of its VAE's 32 latent channels the 12 that show, and a decoder for those.

A denoiser with fewer entries to make in each token has more width for what they mean. The encoder stays as it is but
for its last layer, which turns the latents (`sora_jax/models/vae_axes.py`).
Data: playground scenes, whole in time, windows of 32x32 pixels.
Hardware: 2 CPU cores; 3.5 steps/s at a matmul peak of 360 GFLOP/s, so eight minutes.
Expected: 36.4 dB on unseen clips at the end, 34.0 before the first step; 36.6 with all 32 channels.
Run:  sora-jax train experiments/train/playground_vae.py --workdir runs/playground_vae
      sora-jax train experiments/train/playground_decoder.py --workdir runs/playground_decoder
"""

from sora_jax.data.sources import DataConfig
from sora_jax.models.vae import VAE_PLAYGROUND
from sora_jax.train.optimizer import OptimizerConfig
from sora_jax.train.vae import VAELossConfig, VAERun

EXPERIMENT = VAERun(
    model=VAE_PLAYGROUND,
    start="runs/playground_vae/weights",
    train_encoder=False,
    data=DataConfig(count=8_000, keep_in_memory=True),
    crop_size=32,
    crop_frames=None,
    loss=VAELossConfig(l1=1.0, l2=10.0),
    optimizer=OptimizerConfig(
        name="muon", learning_rate=1.5e-3, warmup_steps=50, decay_fraction=0.7, weight_decay=0.0
    ),
    steps=1_500,
    batch_size=8,
    ema_decay=0.995,
    checkpoint_every=250,
    sample_every=500,
)
