"""Six seconds, streamed, in which the prompt changes.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_stream.py --out stream
"""

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    prompts = ["a red circle bounces", "a red circle bounces", "a red circle circles around"]
    chunks = list(pipeline.stream(prompts, seconds=6, seed=seed))
    frames = np.concatenate([chunk.frames for chunk in chunks])
    return {"stream": Clip(frames, chunks[0].fps, chunks[-1].metadata)}


SAMPLE = Script(make=make)
