"""A generation that is told something else on its way: one run, forked after an eighth of its steps.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_change.py --out change
"""

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    words = "a red circle moves right on a plain black background"
    going = pipeline.begin(resolve(pipeline.config, [words], seed=seed))
    going = pipeline.advance(going, going.steps // 8)
    told = {"as_it_was": words, "blue": words.replace("red", "blue"), "star": words.replace("circle", "star")}
    return {
        name: pipeline.finish(pipeline.advance(pipeline.change(going, prompt=text), going.steps))[0]
        for name, text in told.items()
    }


SAMPLE = Script(make=make)
