"""Two objects, each with its own colour, shape and motion: does the model keep them apart?

Model: playground (shipped). Two noises of each prompt; on two CPU cores about a quarter of a minute.

    sora-jax sample experiments/sample/playground_two_objects.py --out two_objects
"""

from sora_jax.studio.sample import Sample

SAMPLE = Sample(
    prompts=(
        "a red circle moves right and a blue square moves left",
        "a blue circle moves right and a red square moves left",
        "a green ring bounces while a yellow star spins",
        "a white heart grows and a purple triangle stays still",
        "an orange circle moves down, and a cyan ring moves up",
        "a small red star circles around and a large white square stays still",
    ),
    variations=2,
)
