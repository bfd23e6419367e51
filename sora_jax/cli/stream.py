"""Makes frames as they are ready, one window after another; Ctrl-C ends it, and what there is by then is written.

sora-jax stream "a red circle circles around" --seconds 10

sora-jax stream "a red circle bounces" "a red circle spins" --out long.mp4
"""

import time
from dataclasses import dataclass
from typing import Annotated

import tyro

from sora_jax.cli.edit import UNSET, Settings, reserve

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Settings):
    """Options of `sora-jax stream`."""

    prompts: tyro.conf.Positional[tuple[str, ...]]
    """What to show: each for one window, the last from then on."""
    seconds: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: until Ctrl-C)")] = None
    """When to end."""
    delay: int = 2
    """Steps that each latent frame runs behind the one before it."""
    aspect: Annotated[str | None, UNSET] = None
    """WIDTH:HEIGHT, in place of size."""


def run(args: Args) -> int:
    """Streams, says how fast, and writes the whole at the end; prints the file's path."""
    import sys

    import numpy as np

    from sora_jax.media import Clip

    [path] = reserve(args.out, args.prompts[0] if args.prompts else "")
    pipeline = args.load()
    made: list[Clip] = []
    began, first = time.perf_counter(), 0.0
    frames = 0
    chunks = pipeline.stream(
        args.prompts, seconds=args.seconds, delay=args.delay, aspect=args.aspect, **args.settings()
    )
    try:
        for chunk in chunks:
            now = time.perf_counter() - began
            first = first or now
            frames += len(chunk)
            made.append(chunk)
            rate = (frames - len(made[0])) / (now - first) if now > first else 0.0
            print(f"{frames} frames, {now:.1f} s, {rate:.1f} frames/s", file=sys.stderr)
    except KeyboardInterrupt:
        if not made:
            raise
    whole = np.concatenate([chunk.frames for chunk in made])
    about = {**made[-1].metadata, "prompt": list(args.prompts), "seconds_to_first_frame": round(first, 3)}
    print(Clip(whole, made[0].fps, about).save(path))
    return 0
