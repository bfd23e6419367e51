"""Two clips that flow into one another or mix, by a curve of the second one's influence over time.

x₀ = (1 - c)·A + c·B,   σ = peak·4·c·(1 - c),   v = (1 - c)·v_A + c·v_B        for influence c(t)
"""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import fitted, make
from sora_jax.studio.sources import Opened, Source
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["CURVES", "blend", "influence"]

PEAK = 0.9
"""The noise level where both have as much influence: there most is made anew."""

CURVES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "linear": lambda u: u,
    "smooth": lambda u: u * u * (3 - 2 * u),
    "late": lambda u: u**3,
    "early": lambda u: 1 - (1 - u) ** 3,
    "mix": lambda u: np.full_like(u, 0.5),
}
"""Influence of the second clip in [0, 1], of time in [0, 1]."""

Points = Sequence[tuple[float, float]]


def influence(curve: str | Points, count: int, fps: float) -> np.ndarray:
    """The second clip's influence on each of `count` frames: a preset of `CURVES`, or points (second, influence)."""
    if isinstance(curve, str):
        if curve not in CURVES:
            raise ValueError(f"there is no curve {curve!r}: choose {', '.join(CURVES)}, or give points.")
        return CURVES[curve](np.linspace(0, 1, count))
    try:
        points = np.asarray(sorted(curve), np.float64).reshape(len(curve), 2)
    except (TypeError, ValueError):
        points = np.full((1, 2), np.nan)
    times, values = points.T
    if not len(times) or not np.isfinite(times).all() or not ((values >= 0) & (values <= 1)).all():
        raise ValueError(
            "the curve's points are (second, influence): give some, with influences from 0 to 1."
        )
    return np.interp(np.arange(count) / fps, times, values)


def blend(
    pipeline: "Pipeline",
    first: Source,
    second: Source,
    prompts: tuple[str, str] | None = None,
    *,
    curve: str | Points = "smooth",
    size: str | tuple[int, int] | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """A clip that is the first where the curve is 0, the second where it is 1, and something of both between.

    It is as long as the shorter one. `prompts` are of the two clips; unless given, those that they were made from.
    Frames of one clip alone stay as they are, if the network was trained with known frames.
    """
    if prompts is not None and (isinstance(prompts, str) or len(prompts) != 2):
        raise ValueError(f"prompts is {prompts!r}: give two, one of each clip.")
    clips = fitted(pipeline, (first, second), size, fps)
    prompts = prompts or _prompts(clips)
    (a, b), fps = (one.frames for one in clips), clips[0].fps
    count = min(len(a), len(b))
    c = influence(curve, count, fps)
    frames = (1 - c)[:, None, None, None] * a[:count] + c[:, None, None, None] * b[:count]
    return make(
        pipeline,
        "blend",
        frames.astype(np.float32),
        ((c == 0) | (c == 1)) & pipeline.config.known_frames,
        fps,
        prompts,
        settings,
        shares=np.stack([1 - c, c]).astype(np.float32),
        strength=(PEAK * 4 * c * (1 - c)).astype(np.float32),
        about={"curve": curve if isinstance(curve, str) else [list(point) for point in curve]},
    )


def _prompts(clips: list[Opened]) -> tuple[str, str]:
    a, b = (clip.metadata.get("prompt") for clip in clips)
    if not isinstance(a, str) or not isinstance(b, str):
        raise ValueError("the clips don't say what they show: give prompts, one of each.")
    return a, b
