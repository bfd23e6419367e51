"""A transition between two clips.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_connect.py --out connect
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    first = pipeline.generate("a blue star moves right on a black background", seed=seed)
    second = pipeline.generate("a blue star spins on a black background", seed=seed + 1)
    words = "a blue star moves left on a black background"
    return {"connected": pipeline.connect(first, second, words, seconds=1, seed=seed)}


SAMPLE = Script(make=make)
