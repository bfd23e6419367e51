"""Makes a picture move.

sora-jax animate heart.png "a red heart grows" --out heart.mp4

sora-jax animate first.png "a blue star spins" --last-image last.png --keyframe 1:middle.png
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sora_jax.cli.edit import MODELS_OWN, UNSET, Edit, edit

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax animate`."""

    image: tyro.conf.Positional[Path]
    """The picture that the clip starts with."""
    prompt: tyro.conf.Positional[str]
    """What happens."""
    last_image: Annotated[Path | None, UNSET] = None
    """A picture that it ends with."""
    keyframe: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """A picture at another time, as SECOND:FILE."""
    seconds: Annotated[float | None, MODELS_OWN] = None
    """How long."""


def _keyframe(text: str) -> tuple[float, Path]:
    second, _, file = text.partition(":")
    try:
        return float(second), Path(file)
    except ValueError:
        raise ValueError(f"{text!r} isn't SECOND:FILE: write it like 1.5:middle.png.") from None


def run(args: Args) -> int:
    """Animates and writes; prints the file's path."""
    from sora_jax.studio.image import pixels_of

    # Read before the model is: a wrong name shows at once.
    keyframes = {second: pixels_of(path) for second, path in map(_keyframe, args.keyframe)}
    image, last = (None if path is None else pixels_of(path) for path in (args.image, args.last_image))
    options = {"last_image": last, "keyframes": keyframes, "seconds": args.seconds}
    return edit(
        args,
        args.prompt,
        lambda pipeline, settings: pipeline.animate(image, args.prompt, **options, **settings),
    )
