"""Clips that end where they begin.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_loop.py --out loop
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    prompts = ("a yellow ring circles around", "a white star spins", "a green square bounces")
    return {prompt.replace(" ", "_"): pipeline.loop(prompt, seed=seed) for prompt in prompts}


SAMPLE = Script(make=make)
