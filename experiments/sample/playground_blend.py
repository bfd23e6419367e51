"""Two clips, by four curves of the second one's influence.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_blend.py --out blend
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    first = pipeline.generate("a red circle stays still on a black background", seed=seed)
    second = pipeline.generate("a blue square stays still on a black background", seed=seed)
    curves = ("linear", "smooth", "early", "mix")
    return {curve: pipeline.blend(first, second, curve=curve, seed=seed) for curve in curves}


SAMPLE = Script(make=make)
