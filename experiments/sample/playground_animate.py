"""A picture starts to move: the first frame of one clip, under another prompt; and with a last image.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_animate.py --out animate
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    picture = pipeline.generate("a red heart stays still", frames=1, seed=seed)
    end = pipeline.generate("a large red heart stays still", frames=1, seed=seed)
    return {
        "picture": picture,
        "grows": pipeline.animate(picture, "a red heart grows", seed=seed),
        "to_a_last_image": pipeline.animate(picture, "a red heart grows", last_image=end, seed=seed),
    }


SAMPLE = Script(make=make)
