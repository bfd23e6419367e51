"""Makes labelled clips in bulk; the same command goes on where it was stopped.

sora-jax dataset prompts.jsonl --count 1000 --out made

sora-jax data folder made --out datasets/made

The first makes mp4 files and captions.jsonl, the second a dataset (TFDS, ArrayRecord) of them.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sora_jax.cli.edit import MODELS_OWN

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax dataset`."""

    prompts: tyro.conf.Positional[Path]
    """A .jsonl file with "prompt" in each line, or a text file with a prompt a line."""
    count: int
    """Clips in all; the prompts are taken in turn."""
    out: Path
    """The folder to make or to go on with."""
    seed: int = 0
    """Clip i has seed + i."""
    batch: int = 16
    """Clips made at once."""
    seconds: Annotated[float | None, MODELS_OWN] = None
    """How long each is."""
    size: Annotated[str | None, MODELS_OWN] = None
    """WIDTHxHEIGHT in pixels."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    guidance: Annotated[float | None, MODELS_OWN] = None
    """How strongly the words steer."""
    model: str = "playground"
    """A model's name, a folder of weights, or a repository of the hub."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the large matrices and their products."""


def run(args: Args) -> int:
    """Makes what is missing; prints the path of the captions."""
    from sora_jax.studio.dataset import make_dataset, read_prompts
    from sora_jax.studio.pipeline import load
    from sora_jax.studio.progress import bar

    prompts = read_prompts(args.prompts)
    pipeline = load(args.model, dtype=args.dtype)
    options = {name: getattr(args, name) for name in ("seconds", "size", "steps", "guidance")}
    with bar("making", unit="clips") as report:
        path = make_dataset(
            pipeline,
            prompts,
            args.out,
            count=args.count,
            seed=args.seed,
            batch=args.batch,
            report=report,
            **options,
        )
    print(path)
    return 0
