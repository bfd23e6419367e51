"""Makes a video from words.

sora-jax generate "a red circle moves right" --out clip.mp4 --seed 0

sora-jax generate "a blue star spins" --variations 4 --aspect 16:9 --out star.gif

sora-jax generate "the cat turns its head" --image cat.png --model Wan-AI/Wan2.2-TI2V-5B-Diffusers --dtype bfloat16
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sora_jax.cli.edit import MODELS_OWN, UNSET, Edit, reserve, write

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax generate`; what isn't given is the model's default."""

    prompt: tyro.conf.Positional[str]
    """What to show, for instance "a red circle moves right"."""
    seconds: Annotated[float | None, MODELS_OWN] = None
    """How long."""
    frames: Annotated[int | None, UNSET] = None
    """How long, in frames, in place of seconds; 1 makes a picture."""
    fps: Annotated[float | None, MODELS_OWN] = None
    """Frames a second: how fast they are shown, and how many make up the seconds. The networks aren't told it."""
    size: Annotated[str | None, MODELS_OWN] = None
    """WIDTHxHEIGHT in pixels, as in 64x64."""
    aspect: Annotated[str | None, UNSET] = None
    """WIDTH:HEIGHT, as in 16:9, with about as many pixels as the model's default; in place of size."""
    image: Annotated[Path | None, UNSET] = None
    """A picture that the clip starts with; without size and aspect the clip has its shape."""
    last_image: Annotated[Path | None, UNSET] = None
    """A picture that it ends with, where the model takes one."""


def run(args: Args) -> int:
    """Generates and writes; prints the path of each file."""
    from sora_jax.studio.request import check_request

    check_request(variations=args.variations, steps=args.steps, guidance=args.guidance, seed=args.seed)
    paths = reserve(args.out, args.prompt, args.variations)
    from sora_jax.models.tokenizer import check_prompt

    check_prompt(args.prompt)
    from sora_jax.studio.image import pixels_of
    from sora_jax.studio.progress import bar

    # Read before the model is: a wrong name shows at once.
    image, last = (None if path is None else pixels_of(path) for path in (args.image, args.last_image))
    pipeline = args.load()
    with bar() as report:
        clips = pipeline.generate(
            [args.prompt],
            variations=args.variations,
            seconds=args.seconds,
            frames=args.frames,
            aspect=args.aspect,
            image=image,
            last_image=last,
            progress=report,
            **args.settings(),
        )
    write(clips, args.prompt, paths)
    return 0
