"""Two moments of a clip kept, at other times, and the rest made anew.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_recut.py --out recut
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    words = "a green square bounces"
    clip = pipeline.generate(words, seed=seed)
    keep = [(0.25, 1.0, 0.5), (1.25, 2.0, 2.5)]
    return {"clip": clip, "recut": pipeline.recut(clip, keep, words, seconds=4, seed=seed)}


SAMPLE = Script(make=make)
