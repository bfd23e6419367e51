"""Makes a clip anew under another prompt, and keeps what that doesn't change.

sora-jax remix clip.mp4 "a blue circle moves right"

sora-jax remix clip.mp4 "a blue star moves right" --strength 0.9 --out star.mp4
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sora_jax.cli.edit import Edit, edit, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax remix`."""

    clip: tyro.conf.Positional[Path]
    """The clip."""
    prompt: tyro.conf.Positional[str]
    """What it is to show."""
    strength: str = "mild"
    """subtle, mild or strong, or a noise level from 0 (the clip as it is) to 1 (a new one)."""


def run(args: Args) -> int:
    """Remixes and writes; prints the file's path."""
    clip = source(args.clip)
    try:
        strength: float | str = float(args.strength)
    except ValueError:
        strength = args.strength
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.remix(clip, args.prompt, strength=strength, **settings),
    )
