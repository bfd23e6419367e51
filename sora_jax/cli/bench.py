"""Times this machine, and compares what was timed.

sora-jax bench train --model 100m --batch-size 1 --out train.json

sora-jax bench train --experiment experiments/train/playground_dit.py

sora-jax bench sample --model playground --steps 30

sora-jax bench vae --model wan2_1_t2v_1_3b --size 64x64 --frames 5

sora-jax bench data

sora-jax bench ops --only convolution --seconds 3

sora-jax bench edits --only extend

sora-jax bench cache --model playground --steps 30

sora-jax bench quantize --model playground

sora-jax bench peers --only 100m

sora-jax bench compare a.json b.json

Each but the last prints a table or, with --json, the record that --out writes; docs/bench.md has its fields.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from sora_jax.cli.bench_options import (
    Args,
    Cache,
    Compare,
    Data,
    Edits,
    Ops,
    Peers,
    Quantize,
    Sample,
    Timed,
    Train,
    Vae,
    Written,
)

__all__ = ["Args", "run"]


def run(args: Any) -> int:
    """Measures, and prints a table or the record."""
    return _RUNS[type(args)](args)


def _effort(args: Timed) -> Any:
    from sora_jax.evals.bench.timing import Effort

    return Effort(args.repeats, args.seconds, args.warmup).checked()


def _size(text: str | None) -> tuple[int, int] | None:
    from sora_jax.studio.size import parse_size

    return None if text is None else parse_size(text)


def _chosen(only: str, names: Iterable[str], what: str) -> list[str]:
    names = list(names)
    chosen = [name for name in names if only in name]
    if not chosen:
        raise ValueError(f"no {what} has {only!r} in its name: they are {'; '.join(names)}.")
    return chosen


def _finish(args: Written, measures: Iterable[Any], peak: Any = None, mesh: Any = None) -> int:
    """Runs through the measures with the last one's name on show, and gives the record."""
    from rich.console import Console

    from sora_jax.evals.bench.machine import record
    from sora_jax.evals.bench.record import to_json, write
    from sora_jax.evals.bench.tables import table, time_of

    found = []
    told = Console(stderr=True)
    with told.status("measuring") as status:
        for measure in measures:
            found.append(measure)
            said = f"measured {measure.name} {measure.variant}: {time_of(measure)}"
            status.update(said)
            if not told.is_terminal:
                print(said, file=sys.stderr)
    settings = {
        name: value for name, value in dataclasses.asdict(args).items() if name not in ("out", "as_json")
    }
    made = record(type(args).__name__.lower(), settings, found, peak=peak, mesh=mesh)
    if args.out:
        write(args.out, made)
    if args.as_json:
        print(to_json(made), end="")
    else:
        Console(width=None if sys.stdout.isatty() else 200).print(table(made))
    return 0


def _train(args: Train) -> int:
    from sora_jax.evals.bench.machine import peak
    from sora_jax.evals.bench.train import TrainBench, data_wait, model_run, train_step
    from sora_jax.parallel import make_mesh

    effort = _effort(args)
    if args.experiment:
        from sora_jax.evals.runs import load_experiment

        wanted = load_experiment(args.experiment)
        wanted = dataclasses.replace(wanted, mesh=args.mesh, batch_size=args.batch_size or wanted.batch_size)
    else:
        wanted = model_run(
            args.model,
            batch_size=args.batch_size or 1,
            size=_size(args.size),
            frames=args.frames,
            dtype=args.dtype,
            remat=args.remat,
            accumulate=args.accumulate,
            optimizer=args.optimizer,
            mesh=args.mesh,
        )
    most = peak(getattr(wanted, "dtype", "float32"))

    def measures():
        bench = TrainBench.of(wanted)
        yield train_step(bench, effort, most)
        if args.experiment:
            yield data_wait(bench, args.steps)

    return _finish(args, measures(), most, dict(make_mesh(wanted.mesh).shape))


def _pipeline(model: str, dtype: str = "float32") -> Any:
    """A model of the package or of a folder, or a named size with random weights."""
    from sora_jax.studio.pipeline import Pipeline

    return Pipeline(_checkpoint(model), dtype)


def _checkpoint(model: str) -> Any:
    from sora_jax.evals.bench.sizes import SIZES, random_checkpoint
    from sora_jax.weights import is_shipped, load

    return load(model) if model not in SIZES or is_shipped(model) else random_checkpoint(SIZES[model])


def _request(args: Any, config: Any) -> Any:
    from sora_jax.studio.request import resolve

    asked = {name: getattr(args, name) for name in ("steps", "sampler", "size", "frames")}
    return resolve(config, args.prompt, **asked)


def _sample(args: Sample) -> int:
    from sora_jax.evals.bench.machine import peak
    from sora_jax.evals.bench.sample import measure

    effort, pipeline = _effort(args), _pipeline(args.model, args.dtype)
    most = peak(args.dtype)
    request = _request(args, pipeline.config)
    return _finish(args, measure(pipeline, request, effort=effort, peak=most), most)


def _vae(args: Vae) -> int:
    from sora_jax.evals.bench.machine import peak
    from sora_jax.evals.bench.sizes import sized
    from sora_jax.evals.bench.vae import measure

    effort, config, most = _effort(args), sized(args.model), peak(args.dtype)
    defaults = config.defaults
    measures = measure(
        config.vae,
        batch_size=args.batch_size,
        size=_size(args.size) or (defaults.height, defaults.width),
        frames=args.frames or defaults.frames,
        dtype=args.dtype,
        effort=effort,
        peak=most,
    )
    return _finish(args, measures, most)


def _data(args: Data) -> int:
    from sora_jax.data.sources import DataConfig
    from sora_jax.evals.bench.data import KINDS, measure

    kinds = tuple(_chosen(args.only, KINDS, "kind"))
    height, width = _size(args.size) or (64, 64)
    data = DataConfig(path=args.path, height=height, width=width, frames=args.frames)
    return _finish(args, measure(data, kinds=kinds, batch_size=args.batch_size, effort=_effort(args)))


def _ops(args: Ops) -> int:
    from sora_jax.evals.bench.machine import peak
    from sora_jax.evals.bench.ops import CASES, measure

    effort = _effort(args)
    names = _chosen(args.only, [case.name for case in CASES], "case")
    cases = tuple(case for case in CASES if case.name in names)
    most = peak()
    return _finish(args, measure(cases, effort=effort, peak=most), most)


def _edits(args: Edits) -> int:
    from sora_jax.evals.bench.edits import EDITS, measure

    effort, names = _effort(args), _chosen(args.only, EDITS, "edit")
    pipeline = _pipeline(args.model)
    return _finish(args, measure(pipeline, args.prompt, steps=args.steps, names=names, effort=effort))


def _cache(args: Cache) -> int:
    from sora_jax.evals.bench.cache import THRESHOLDS, choices, measure, measured_ratios

    effort = _effort(args)
    names = _chosen(args.only, THRESHOLDS, "rule")
    pipeline = _pipeline(args.model)
    request = _request(args, pipeline.config)
    ratios = measured_ratios(pipeline, request)
    return _finish(args, measure(pipeline, request, list(choices(names, ratios)), effort, ratios))


def _quantize(args: Quantize) -> int:
    from sora_jax.evals.bench.quantize import KINDS, measure

    kinds = _chosen(args.only, KINDS, "kind")
    checkpoint = _checkpoint(args.model)
    return _finish(args, measure(checkpoint, _request(args, checkpoint.config), kinds))


def _peers(args: Peers) -> int:
    from sora_jax.evals.bench.machine import peak
    from sora_jax.evals.bench.peers import CASES, measure

    effort = _effort(args)
    names = _chosen(args.only, [case.name for case in CASES], "case")
    cases = tuple(case for case in CASES if case.name in names)
    most = peak()
    return _finish(args, measure(cases, dtypes=args.dtypes, effort=effort, peak=most), most)


def _labels(paths: Sequence[Path]) -> list[str]:
    """The files' names, and their folders where names are the same."""
    names = [path.stem for path in paths]
    return [str(path.with_suffix("")) if names.count(path.stem) > 1 else path.stem for path in paths]


def _compare(args: Compare) -> int:
    from rich.console import Console

    from sora_jax.evals.bench.record import read
    from sora_jax.evals.bench.tables import compared, differences, plot

    if len(args.records) < 2:
        raise ValueError(f"{len(args.records)} records were named: give at least two.")
    if len(set(args.records)) < len(args.records):
        raise ValueError("a record was named twice: give each once.")
    records = dict(zip(_labels(args.records), map(read, args.records), strict=True))
    Console(width=None if sys.stdout.isatty() else 160).print(compared(records))
    for sentence in differences(records):
        print(f"differs: {sentence}")
    print(plot(records, args.plot))
    return 0


_RUNS: dict[type, Callable[[Any], int]] = {
    Train: _train,
    Sample: _sample,
    Vae: _vae,
    Data: _data,
    Ops: _ops,
    Edits: _edits,
    Cache: _cache,
    Quantize: _quantize,
    Peers: _peers,
    Compare: _compare,
}
