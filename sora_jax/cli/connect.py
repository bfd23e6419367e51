"""Makes a transition from one clip or picture to another.

sora-jax connect first.mp4 second.mp4 "a red circle grows" --seconds 1
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sora_jax.cli.edit import Edit, edit, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax connect`."""

    first: tyro.conf.Positional[Path]
    """A clip or a picture."""
    second: tyro.conf.Positional[Path]
    """What it leads to."""
    prompt: tyro.conf.Positional[str]
    """What happens between them."""
    seconds: float = 1.0
    """How long the transition is."""


def run(args: Args) -> int:
    """Connects and writes; prints the file's path."""
    first, second = source(args.first), source(args.second)
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.connect(
            first, second, args.prompt, seconds=args.seconds, **settings
        ),
    )
