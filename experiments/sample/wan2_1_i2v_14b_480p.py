"""Wan 2.1 image to video, 14 B, at 480p (arXiv 2503.20314), as published.

The clip has the image's shape, at about the model's area. The shift of 3 comes with the checkpoint, the
negative prompt with the model. Weights: 30.9 GiB of denoiser and 11.8 of encoders in bfloat16;
docs/published_weights.md has the machines.

    sora-jax sample experiments/sample/wan2_1_i2v_14b_480p.py --image first.png
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.1-I2V-14B-480P-Diffusers",
    dtype="bfloat16",
    prompts=("The cat turns its head, looks into the camera and yawns, its fur moving in the wind.",),
    seconds=5.0,
    fps=16.0,
    steps=40,
    guidance=5.0,
    sampler="unipc",
)
