"""One prompt under presets of camera, light and style.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_presets.py --out presets
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    words = "a white circle stays still"
    chosen = (["zoom-in"], ["pan-left"], ["darkening"], ["stage"])
    return {" ".join(names): pipeline.generate(words, presets=names, seed=seed) for names in chosen}


SAMPLE = Script(make=make)
