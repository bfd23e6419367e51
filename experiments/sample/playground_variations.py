"""One prompt from four noises.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_variations.py --out variations
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    clips = pipeline.generate("a blue star moves up on a plain black background", variations=4, seed=seed)
    return {f"seed_{clip.metadata['seed']}": clip for clip in clips}


SAMPLE = Script(make=make)
