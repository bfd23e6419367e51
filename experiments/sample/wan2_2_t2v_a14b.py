"""Wan 2.2 text to video, two experts of 14 B, at 720p (arXiv 2503.20314), as published.

The shift of 12 comes with the checkpoint, the negative prompt with the model. Weights: 53.9 GiB of
denoisers and 10.6 of text encoder in bfloat16; docs/published_weights.md has the machines.

    sora-jax sample experiments/sample/wan2_2_t2v_a14b.py
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    dtype="bfloat16",
    prompts=(
        "Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a spotlighted stage.",
    ),
    seconds=5.0,
    fps=16.0,
    size="1280x720",
    steps=40,
    guidance=4.0,
    guidance_2=3.0,
    sampler="unipc",
)
