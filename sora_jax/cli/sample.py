"""Runs a sampling experiment: a Python file with `SAMPLE = Sample(prompts=..., ...)`, or `Script(make=...)` for edits.

sora-jax sample experiments/sample/playground_gallery.py --out gallery

sora-jax sample experiments/sample/playground_gallery.py --seed 7 --guidance 3
"""

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

__all__ = ["main"]

USAGE = f"""usage: sora-jax sample FILE [--out DIR] [--any-field VALUE]

{__doc__}
FILE --help lists the fields of its sample with their values."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Settings:
    """The fields of a script that are options."""

    model: str
    dtype: Literal["float32", "bfloat16"]
    seed: int
    ending: str


def main(arguments: Sequence[str]) -> int:
    """Runs `sora-jax sample FILE ...`; prints the paths of what it wrote."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    import tyro

    from sora_jax.studio.sample import read_sample

    file = Path(arguments[0])
    sample, about = read_sample(file)
    make = getattr(sample, "make", None)
    if make is not None:
        # A function is no option.
        sample = _Settings(**{f.name: getattr(sample, f.name) for f in dataclasses.fields(_Settings)})
    run = dataclasses.make_dataclass(
        "Run",
        [("sample", tyro.conf.OmitArgPrefixes[type(sample)], sample), ("out", Path, Path(file.stem))],
        frozen=True,
    )
    args = tyro.cli(
        run,
        prog=f"sora-jax sample {file}",
        description=about,
        args=list(arguments[1:]),
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )
    from sora_jax.parallel.mesh import mesh_of
    from sora_jax.studio.pipeline import load
    from sora_jax.studio.progress import bar
    from sora_jax.studio.sample import Script, run_sample, run_script

    try:
        args.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {args.out} can't be made ({error.strerror}).") from error
    if make is not None:
        script = Script(make=make, **dataclasses.asdict(args.sample))
        pipeline = load(script.model, dtype=script.dtype)
        print(*run_script(script, pipeline, args.out), sep="\n")
        return 0
    mesh = mesh_of(args.sample.shards, args.sample.context)
    pipeline = load(args.sample.model, mesh=mesh, dtype=args.sample.dtype, attention=args.sample.attention)
    with bar(unit="clip steps") as report:
        paths = run_sample(args.sample, pipeline, args.out, report)
    print(*paths, sep="\n")
    return 0
