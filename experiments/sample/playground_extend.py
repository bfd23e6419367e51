"""A clip made longer, after its end and before its start.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_extend.py --out extend
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    words = "a yellow ring circles around"
    clip = pipeline.generate(words, seed=seed)
    return {
        "clip": clip,
        "forward": pipeline.extend(clip, words, seconds=4, seed=seed),
        "backward": pipeline.extend(clip, words, seconds=2, direction="backward", seed=seed),
    }


SAMPLE = Script(make=make)
