"""Makes a clip longer.

sora-jax extend clip.mp4 "a red circle moves right" --seconds 4

sora-jax extend clip.mp4 "a red circle moves right" --seconds 1 --direction backward --out before.mp4
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro

from sora_jax.cli.edit import Edit, edit, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax extend`."""

    clip: tyro.conf.Positional[Path]
    """The clip."""
    prompt: tyro.conf.Positional[str]
    """What goes on."""
    seconds: float
    """How much longer."""
    direction: Literal["forward", "backward", "both"] = "forward"
    """After its end, before its start, or as much on both sides."""


def run(args: Args) -> int:
    """Extends and writes; prints the file's path."""
    clip = source(args.clip)
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.extend(
            clip, args.prompt, seconds=args.seconds, direction=args.direction, **settings
        ),
    )
