"""Wan 2.2 image to video, two experts of 14 B, at 720p (arXiv 2503.20314), as published.

The clip has the image's shape, at about the model's area. The shift of 5 comes with the checkpoint, the
negative prompt with the model. Weights: 53.9 GiB of denoisers and 10.6 of text encoder in bfloat16;
docs/published_weights.md has the machines.

    sora-jax sample experiments/sample/wan2_2_i2v_a14b.py --image first.png
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.2-I2V-A14B-Diffusers",
    dtype="bfloat16",
    prompts=("The cat turns its head, looks into the camera and yawns, its fur moving in the wind.",),
    seconds=5.0,
    fps=16.0,
    steps=40,
    guidance=3.5,
    guidance_2=3.5,
    sampler="unipc",
)
