"""One clip under another colour, from subtle to strong.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_remix.py --out remix
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    clip = pipeline.generate("a red circle moves right", seed=seed)
    words = "a blue circle moves right"
    remixes = {s: pipeline.remix(clip, words, strength=s, seed=seed) for s in ("subtle", "mild", "strong")}
    return {"clip": clip, **remixes}


SAMPLE = Script(make=make)
