"""Three shots with hard cuts, and one that goes on.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_storyboard.py --out storyboard
"""

from sora_jax.media import Clip
from sora_jax.studio.edits import Card
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    cards = [
        Card(at=0, prompt="a red circle moves right"),
        Card(at=2, prompt="a blue star spins on a navy background", cut=True),
        Card(at=4, prompt="a green square bounces", cut=True),
        Card(at=6, prompt="a green square stays still"),
    ]
    return {"story": pipeline.storyboard(cards, seconds=8, seed=seed)}


SAMPLE = Script(make=make)
