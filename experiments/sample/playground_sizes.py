"""One prompt in a square, wide, tall, and for four seconds.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_sizes.py --out sizes
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    words = "a red circle bounces on a plain black background"
    return {
        "64x64": pipeline.generate(words, seed=seed),
        "112x64": pipeline.generate(words, size="112x64", seed=seed),
        "64x112": pipeline.generate(words, size="64x112", seed=seed),
        "four_seconds": pipeline.generate(words, seconds=4, seed=seed),
    }


SAMPLE = Script(make=make)
