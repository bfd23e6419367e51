"""Makes a clip that ends where it begins.

sora-jax loop "a yellow ring circles around" --out ring.gif

sora-jax loop --clip clip.mp4 "a red circle moves right" --seconds 1
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sora_jax.cli.edit import UNSET, Edit, edit, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax loop`."""

    prompt: tyro.conf.Positional[str]
    """What it shows."""
    clip: Annotated[Path | None, UNSET] = None
    """A clip to lead back to its start, in place of a new one."""
    seconds: Annotated[
        float | None, tyro.conf.arg(help_behavior_hint="(default: half the model's length)")
    ] = None
    """How long the way back is."""


def run(args: Args) -> int:
    """Makes the loop and writes it; prints the file's path."""
    clip = None if args.clip is None else source(args.clip)
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.loop(
            clip or args.prompt, args.prompt if clip else None, seconds=args.seconds, **settings
        ),
    )
