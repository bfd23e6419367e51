"""Wan 2.1 first and last frame to video, 14 B, at 720p (arXiv 2503.20314), as published.

The clip has the image's shape, at about the model's area. The shift of 16 comes with the checkpoint, the
negative prompt with the model. Weights: 30.9 GiB of denoiser and 11.8 of encoders in bfloat16;
docs/published_weights.md has the machines.

    sora-jax sample experiments/sample/wan2_1_flf2v_14b_720p.py --image first.png --last-image last.png
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.1-FLF2V-14B-720P-diffusers",
    dtype="bfloat16",
    prompts=("A small blue bird takes off from the ground and flies up, the camera following it.",),
    seconds=5.0,
    fps=16.0,
    steps=50,
    guidance=5.0,
    sampler="unipc",
)
