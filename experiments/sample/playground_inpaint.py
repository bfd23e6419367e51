"""Something new inside a mask, for a span of time, and around the frame.

Model: playground (shipped). On two CPU cores under a minute.

    sora-jax sample experiments/sample/playground_inpaint.py --out inpaint
"""

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Script


def make(pipeline: Pipeline, seed: int) -> dict[str, Clip]:
    """The clips, by their names."""
    clip = pipeline.generate("a small red circle stays still on a black background", seed=seed)
    mask = np.zeros(clip.frames.shape[1:3], bool)
    mask[:, 32:] = True
    words = "a small red circle stays still and a blue star spins on a black background"
    return {
        "clip": clip,
        "mask": pipeline.inpaint(clip, words, mask=mask, seed=seed),
        "span": pipeline.inpaint(
            clip, "a red circle grows on a black background", span=(0.75, 1.5), seed=seed
        ),
        "around": pipeline.outpaint(clip, "a small red circle stays still", aspect="16:9", seed=seed),
    }


SAMPLE = Script(make=make)
