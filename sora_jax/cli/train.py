"""Train a network as an experiment file says, or go on with a run that stopped.

Every field of the experiment can be set: --steps 2000, --batch-size 32, --optimizer.learning-rate 5e-4, ...
Running the same command again goes on where the run stopped.

On many hosts (a TPU pod, a Slurm job) the same command runs on each, with --distributed; the workdir is on a disk that
they share, and the batch is cut over them. `docs/pods.md` has it all.

examples:
  $ sora-jax train experiments/train/playground_dit.py --workdir runs/dit --steps 2000
  $ srun sora-jax train experiments/train/playground_dit.py --workdir /shared/dit --distributed --mesh.fsdp 8
"""

import sys
from collections.abc import Sequence
from pathlib import Path


def main(arguments: Sequence[str]) -> int:
    """Runs `arguments`: the experiment's file, --workdir and its fields."""
    arguments = list(arguments)
    if not arguments or arguments[0].startswith("-"):
        print(__doc__, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments and arguments[0] in ("-h", "--help") else 2

    import argparse

    import tyro

    from sora_jax.evals.runs import load_experiment, run
    from sora_jax.parallel import start

    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    own.add_argument("--workdir", type=Path)
    own.add_argument("--distributed", action="store_true")
    found, fields = own.parse_known_args(arguments[1:])
    start(found.distributed)
    experiment = load_experiment(Path(arguments[0]))
    experiment = tyro.cli(
        type(experiment),
        default=experiment,
        prog=f"sora-jax train {arguments[0]} --workdir DIR [--distributed]",
        description=__doc__,
        args=fields,
        config=(tyro.conf.AvoidSubcommands,),
    )
    if found.workdir is None:
        raise ValueError("no --workdir was given: name the run's folder, such as --workdir runs/mine.")
    run(experiment, found.workdir)
    weights = found.workdir / "weights"
    print(
        weights
        if weights.is_dir()
        else f"No weights were written: sora-jax convert {found.workdir} DEST does."
    )
    return 0
