"""Lets one clip flow into another.

sora-jax blend first.mp4 second.mp4 --curve smooth

sora-jax blend first.mp4 second.mp4 --prompts "a red circle spins" "a blue star spins" --curve 0:0 1:0.5 2:1
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sora_jax.cli.edit import Edit, edit, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax blend`."""

    first: tyro.conf.Positional[Path]
    """A clip."""
    second: tyro.conf.Positional[Path]
    """Another."""
    prompts: Annotated[
        tuple[str, str] | tuple[()], tyro.conf.arg(help_behavior_hint="(default: those they were made from)")
    ] = ()
    """What the one and the other show."""
    curve: tuple[str, ...] = ("smooth",)
    """The second one's influence over time: linear, smooth, early, late or mix; or points SECOND:INFLUENCE."""


def run(args: Args) -> int:
    """Blends and writes; prints the file's path."""
    curve = (
        args.curve[0]
        if len(args.curve) == 1 and ":" not in args.curve[0]
        else [_point(p) for p in args.curve]
    )
    first, second = source(args.first), source(args.second)
    words = " ".join(args.prompts) or f"{args.first.stem} {args.second.stem}"
    return edit(
        args,
        words,
        lambda pipeline, settings: pipeline.blend(
            first, second, args.prompts or None, curve=curve, **settings
        ),
    )


def _point(text: str) -> tuple[float, float]:
    try:
        second, share = (float(part) for part in text.split(":"))
    except ValueError:
        raise ValueError(f"{text!r} isn't a point of a curve: write it like 0.5:1.") from None
    return second, share
