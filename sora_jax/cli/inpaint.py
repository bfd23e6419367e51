"""Makes a part of a clip anew: inside a mask, for a span of time, or around its frame.

sora-jax inpaint clip.mp4 "a blue star spins" --mask mask.png

sora-jax inpaint clip.mp4 "a red circle bounces" --span 0.5-1.5

sora-jax inpaint clip.mp4 "a red circle moves right" --around 16:9
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sora_jax.cli.edit import UNSET, Edit, edit, moment, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax inpaint`."""

    clip: tyro.conf.Positional[Path]
    """The clip."""
    prompt: tyro.conf.Positional[str]
    """What it is to show."""
    mask: Annotated[Path | None, UNSET] = None
    """A picture of the clip's size, or of --size, white where something new comes."""
    span: Annotated[str | None, UNSET] = None
    """START-END in seconds, in place of the whole clip."""
    around: Annotated[str | None, UNSET] = None
    """WIDTH:HEIGHT of a larger frame, to make what lies around the clip's; or give a larger --size alone."""


def run(args: Args) -> int:
    """Paints and writes; prints the file's path."""
    from sora_jax.studio.image import pixels_of

    clip = source(args.clip)
    inside = args.mask is not None or args.span is not None
    if inside and args.around is not None:
        raise ValueError("--around makes what lies outside the clip: give it without --mask and --span.")
    if not inside:
        return edit(
            args,
            args.prompt,
            lambda pipeline, settings: pipeline.outpaint(clip, args.prompt, aspect=args.around, **settings),
        )
    mask = None if args.mask is None else pixels_of(args.mask)
    span: Any = None if args.span is None else moment(args.span)[:2]
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.inpaint(
            clip,
            args.prompt,
            mask=mask,
            span=span,
            **settings,
        ),
    )
