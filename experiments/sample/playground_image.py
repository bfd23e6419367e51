"""Pictures: clips of one frame.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_image.py --out image
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    prompts = ("a red heart", "a large blue star", "a green ring")
    return {prompt.replace(" ", "_"): pipeline.generate(prompt, frames=1, seed=seed) for prompt in prompts}


SAMPLE = Script(make=make)
