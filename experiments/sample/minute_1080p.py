"""A minute of video in one piece: 1,441 frames at 1080p and 24 frames a second, by Wan 2.2 TI2V 5B (arXiv 2503.20314).

Its autoencoder's latents are 4x16x16: 736,440 tokens, every one of which sees all others, cut over the chips. The
network was published for five seconds; what it makes of a minute wasn't looked at.
Hardware: v5p-512 (256 chips). What the plan says of its sampling step is in docs/planning.md; nothing was run on chips.
The autoencoder decodes the clip in tiles on one chip afterwards.

    sora-jax plan experiments/sample/minute_1080p.py --topology v5p-512
    sora-jax sample experiments/sample/minute_1080p.py
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    model="Wan-AI/Wan2.2-TI2V-5B-Diffusers",
    dtype="bfloat16",
    prompts=(
        "A train winds through a mountain valley from dawn to dusk, seen from a drone that follows it.",
    ),
    seconds=60.0,
    fps=24.0,
    size="1920x1088",
    steps=50,
    guidance=5.0,
    sampler="unipc",
    context=256,
)
