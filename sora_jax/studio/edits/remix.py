"""A clip made anew from itself: noise is laid on it, up to a level, and taken away again under other words.

x_σ = (1 - σ)·x₀ + σ·ε at σ = strength       (SDEdit, arXiv 2108.01073)
"""

import math
from typing import TYPE_CHECKING, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import make, opened
from sora_jax.studio.sources import Source
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["STRENGTHS", "remix"]

STRENGTHS = {"subtle": 0.6, "mild": 0.8, "strong": 0.92}
"""Noise levels by name."""


def remix(
    pipeline: "Pipeline",
    clip: Source,
    prompt: str,
    *,
    strength: float | str = "mild",
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """The clip under another prompt, nearer to the clip or to the prompt as the strength says.

    strength: subtle, mild or strong, or a noise level in [0, 1]: 0 gives the clip back, 1 makes a new one.
    """
    level = STRENGTHS.get(strength) if isinstance(strength, str) else float(strength)
    if level is None or not (math.isfinite(level) and 0 <= level <= 1):
        names = ", ".join(STRENGTHS)
        raise ValueError(f"strength is {strength!r}: choose {names}, or a noise level from 0 to 1.")
    [frames], fps = opened(pipeline, [clip], size, fps)
    strengths = np.full(len(frames), level, np.float32)
    known = np.full(len(frames), level == 0)
    about = {"strength": level}
    return make(pipeline, "remix", frames, known, fps, [prompt], settings, strength=strengths, about=about)
