"""Wan 2.2 text or image to video, 5 B, at 720p and 24 frames a second (arXiv 2503.20314), as published.

With an image (--image first.png --size 1280x704) the clip starts from it. The shift of 5 comes with the
checkpoint, the negative prompt with the model. Weights: 9.4 GiB of denoiser and 10.6 of text encoder in
bfloat16; docs/published_weights.md has the machines.

    sora-jax sample experiments/sample/wan2_2_ti2v_5b.py
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    dtype="bfloat16",
    prompts=(
        "Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a spotlighted stage.",
    ),
    seconds=5.0,
    fps=24.0,
    size="1280x704",
    steps=50,
    guidance=5.0,
    sampler="unipc",
)
