"""Wan 2.1 text to video, 1.3 B, at 480p (arXiv 2503.20314), as published.

The shift of 3 comes with the checkpoint, the negative prompt with the model. Weights: 2.7 GiB of denoiser
and 10.6 of text encoder in bfloat16; docs/published_weights.md has the machines.

    sora-jax sample experiments/sample/wan2_1_t2v_1_3b.py
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
    dtype="bfloat16",
    prompts=(
        "Two anthropomorphic cats in comfy boxing gear and bright gloves fight intensely on a spotlighted stage.",
    ),
    seconds=5.0,
    fps=16.0,
    size="832x480",
    steps=50,
    guidance=5.0,
    sampler="unipc",
)
