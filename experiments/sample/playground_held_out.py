"""Pairs that training never shows (data/playground/splits.py): each word is known, the combination is new.

Model: playground (shipped). Two noises of each prompt; on two CPU cores about half a minute.

    sora-jax sample experiments/sample/playground_held_out.py --out held_out
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    prompts=(
        "a purple circle moves right",
        "an orange square spins",
        "a yellow triangle grows",
        "a green star moves down",
        "a cyan heart bounces",
        "a red circle moves up",
        "a blue square circles around",
        "a white triangle moves left",
        "a red star bounces",
        "a white ring grows",
        "a red heart moves down",
    ),
    variations=2,
)
