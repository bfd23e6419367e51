"""Which combinations training never sees.

About a tenth of the pairs (colour x shape) and (shape x motion) are named here once and for all. A training
scene has none of them on any object, while every single colour, shape and motion is still seen: a model that
gets a held-out pair right has composed it.
"""

from __future__ import annotations

from typing import Literal

__all__ = ["HELD_OUT_COLOR_SHAPE", "HELD_OUT_SHAPE_MOTION", "SPLITS", "Split", "is_held_out"]

Split = Literal["train", "held_out", "all"]
SPLITS: tuple[Split, ...] = ("train", "held_out", "all")

HELD_OUT_COLOR_SHAPE: tuple[tuple[str, str], ...] = (
    ("purple", "circle"),
    ("orange", "square"),
    ("yellow", "triangle"),
    ("green", "star"),
    ("cyan", "heart"),
)

HELD_OUT_SHAPE_MOTION: tuple[tuple[str, str], ...] = (
    ("circle", "moves up"),
    ("square", "circles around"),
    ("triangle", "moves left"),
    ("star", "bounces"),
    ("ring", "grows"),
    ("heart", "moves down"),
)


def is_held_out(color: str, shape: str, motion: str) -> bool:
    """Whether an object with these attributes has a pair that training never sees."""
    return (color, shape) in HELD_OUT_COLOR_SHAPE or (shape, motion) in HELD_OUT_SHAPE_MOTION
