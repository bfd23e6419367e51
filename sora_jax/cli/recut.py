"""Keeps moments of a clip on a new timeline and makes the rest anew.

sora-jax recut clip.mp4 "a red circle bounces" --keep 0.5-1.25 --keep 1.5-2@3 --seconds 4
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sora_jax.cli.edit import Edit, edit, moment, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax recut`."""

    clip: tyro.conf.Positional[Path]
    """The clip."""
    prompt: tyro.conf.Positional[str]
    """What it shows."""
    keep: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """A moment that stays, as START-END in seconds of the clip, with @AT for another place in the new one."""
    seconds: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: the clip's)")] = None
    """How long the new clip is."""


def run(args: Args) -> int:
    """Cuts, makes and writes; prints the file's path."""
    keep = [moment(text) for text in args.keep]
    clip = source(args.clip)
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.recut(
            clip,
            keep,  # pyright: ignore[reportArgumentType]
            args.prompt,
            seconds=args.seconds,
            **settings,
        ),
    )
