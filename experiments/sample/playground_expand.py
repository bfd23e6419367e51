"""A short prompt as it is, and made long by the playground's grammar, twice.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_expand.py --out expand
"""

from sora_jax.media import Clip
from sora_jax.studio.expand import by_grammar
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    words = "small green heart"
    return {
        "short": pipeline.generate(words, seed=seed),
        "expanded": pipeline.generate(words, expand=True, seed=seed),
        "otherwise": pipeline.generate(words, expand=lambda text: by_grammar(text, 3), seed=seed),
    }


SAMPLE = Script(make=make)
