"""Write a checkpoint in another layout, or a run's newest checkpoint as weights.

sora-jax convert Wan-AI/Wan2.1-T2V-1.3B-Diffusers wan-1.3b
sora-jax convert runs/dit my_model
sora-jax convert playground exported --format diffusers
"""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class Args:
    source: Annotated[str, tyro.conf.Positional]
    """A model's name, a checkpoint's folder in our own layout, that of diffusers or that of the Wan releases, a
    repository of the hub, or a denoiser's run: its newest checkpoint's moving average."""
    dest: Annotated[Path, tyro.conf.Positional]
    """The folder to write, which must not hold anything yet."""
    format: Literal["native", "diffusers"] = "native"
    """`native` is one file a network and one config; `diffusers` is what its Wan pipelines load."""


def run(args: Args) -> None:
    from sora_jax.evals.runs import export
    from sora_jax.weights import load, save, save_diffusers

    if args.dest.exists() and (not args.dest.is_dir() or any(args.dest.iterdir())):
        raise ValueError(f"{args.dest} holds something already: name a new folder.")
    run_folder = Path(args.source)
    if (run_folder / "checkpoints").is_dir():
        if args.format != "native":
            raise ValueError("a run is written as native weights: convert those to diffusers' layout then.")
        export(run_folder, args.dest)
        print(args.dest)
        return
    checkpoint = load(args.source, dtype=None)
    if args.format == "native":
        save(args.dest, checkpoint, dtype=None)
    else:
        save_diffusers(args.dest, checkpoint.config, checkpoint.params, checkpoint.tokenizer)
    print(args.dest)
