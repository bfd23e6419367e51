"""Times this machine, and compares what was timed.

sora-jax bench train --model 100m --batch-size 1 --out train.json

sora-jax bench train --experiment experiments/train/playground_dit.py

sora-jax bench sample --model playground --steps 30

sora-jax bench vae --model wan2_1_t2v_1_3b --size 64x64 --frames 5

sora-jax bench data

sora-jax bench ops --only convolution --seconds 3

sora-jax bench cache --model playground --steps 30

sora-jax bench quantize --model playground

sora-jax bench peers --only 100m

sora-jax bench compare a.json b.json

Each but the last prints a table or, with --json, the record that --out writes; docs/bench.md has its fields.
"""

import dataclasses
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sora_jax.parallel import MeshConfig

__all__ = ["Args", "run"]

MODELS_OWN = tyro.conf.arg(help_behavior_hint="(default: the model's)")
Size = Annotated[str | None, MODELS_OWN]
Frames = Annotated[int | None, MODELS_OWN]


@dataclass(frozen=True, kw_only=True)
class _Written:
    out: Path | None = None
    """Write the record to this file."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the record in place of the table."""


@dataclass(frozen=True, kw_only=True)
class _Timed(_Written):
    repeats: int = 5
    """The fewest repeats of each call."""
    seconds: float = 2.0
    """Go on repeating until each call has used so much time."""
    warmup: int = 1
    """Calls before the first that counts."""


@dataclass(frozen=True, kw_only=True)
class Train(_Timed):
    """The training step as the loop compiles it, on random arrays."""

    model: str = "playground"
    """A named size; the denoiser alone, on text features."""
    experiment: Path | None = None
    """Take the step from this experiment instead, and say too how long it waits for its own data."""
    batch_size: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: 1, or the experiment's)")
    ] = None
    """Clips in a step."""
    accumulate: int = 1
    """Parts that the batch is computed in."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""
    remat: Annotated[Literal["none", "dots", "offload", "attention", "full"] | None, MODELS_OWN] = None
    """What the backward pass computes again."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    mesh: MeshConfig = MeshConfig()
    steps: int = 20
    """Steps on the experiment's own data."""


@dataclass(frozen=True, kw_only=True)
class Sample(_Timed):
    """Whole generations, from words to pixels."""

    model: str = "playground"
    """A named size (random weights), or a folder of weights."""
    prompt: tuple[str, ...] = ("a red circle moves right",)
    """What to sample, as one batch."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""


@dataclass(frozen=True, kw_only=True)
class Vae(_Timed):
    """A VAE encoding and decoding."""

    model: str = "playground"
    """A named size."""
    batch_size: int = 1
    """Clips at once."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""


@dataclass(frozen=True, kw_only=True)
class Data(_Timed):
    """The input pipeline alone."""

    only: str = ""
    """Measure only kinds with this in their name: playground, windows, folder, latents."""
    path: str | None = None
    """A dataset on disk for the kind folder; one of a few clips is made where none is named."""
    batch_size: int = 16
    """Examples at once."""
    size: str = "64x64"
    """WIDTHxHEIGHT in pixels."""
    frames: int = 17
    """Frames of a clip."""


@dataclass(frozen=True, kw_only=True)
class Ops(_Timed):
    """The lowerings of attention and convolution against each other."""

    only: str = ""
    """Measure only cases with this in their name."""


@dataclass(frozen=True, kw_only=True)
class Cache(_Timed):
    """Sampling with steps left out, against the run without."""

    model: str = "playground"
    """A named size (random weights), or a folder of weights."""
    only: str = ""
    """Measure only rules with this in their name."""
    prompt: tuple[str, ...] = ("a red circle moves right",)
    """What to sample, as one batch."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""
    repeats: int = 3
    """The fewest repeats of each call."""
    seconds: float = 0.0
    """Go on repeating until each call has used so much time."""


@dataclass(frozen=True, kw_only=True)
class Quantize(_Written):
    """What half precision and 8-bit weights save and cost, against float32."""

    model: str = "playground"
    """A named size (random weights), or a folder of weights."""
    only: str = ""
    """Measure only kinds with this in their name."""
    prompt: tuple[str, ...] = ("a red circle moves right",)
    """What to sample, as one batch."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""


@dataclass(frozen=True, kw_only=True)
class Peers(_Timed):
    """The same networks here and by diffusers on Torch, in turns. Needs pip install 'sora_jax[parity]'."""

    only: str = ""
    """Measure only cases with this in their name, such as "DiT 100m"."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """Of weights and products, on both sides. On a CPU without bfloat16 instructions Torch's takes minutes."""
    repeats: int = 3
    """The fewest repeats of each call."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Records as one table, against the first, and as a plot (pip install 'sora_jax[plots]')."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Files that --out wrote."""
    plot: Path = Path("bench.png")
    """The picture to write."""


Args = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Vae, tyro.conf.subcommand("vae")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Ops, tyro.conf.subcommand("ops")]
    | Annotated[Cache, tyro.conf.subcommand("cache")]
    | Annotated[Quantize, tyro.conf.subcommand("quantize")]
    | Annotated[Peers, tyro.conf.subcommand("peers")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)


def run(args: Any) -> int:
    """Measures, and prints a table or the record."""
    return _RUNS[type(args)](args)


def _effort(args: _Timed) -> Any:
    from sora_jax.evals.bench.timing import Effort

    return Effort(args.repeats, args.seconds, args.warmup).checked()


def _size(text: str | None) -> tuple[int, int] | None:
    from sora_jax.studio.size import parse_size

    if text is None:
        return None
    width, height = parse_size(text)
    return height, width


def _chosen(only: str, names: Iterable[str], what: str) -> list[str]:
    names = list(names)
    chosen = [name for name in names if only in name]
    if not chosen:
        raise ValueError(f"no {what} has {only!r} in its name: they are {'; '.join(names)}.")
    return chosen


def _finish(args: _Written, measures: Iterable[Any], peak: Any = None, mesh: Any = None) -> int:
    """Runs through the measures with the last one's name on show, and gives the record."""
    from rich.console import Console

    from sora_jax.evals.bench.machine import record
    from sora_jax.evals.bench.record import to_json, write
    from sora_jax.evals.bench.tables import table

    found = []
    with Console(stderr=True).status("measuring") as status:
        for measure in measures:
            found.append(measure)
            status.update(f"measured {measure.name} {measure.variant}")
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
    """A named size with random weights, or the model in a folder."""
    from sora_jax.studio.pipeline import Pipeline

    return Pipeline(_checkpoint(model), dtype)


def _checkpoint(model: str) -> Any:
    from sora_jax.evals.bench.sizes import SIZES, random_checkpoint
    from sora_jax.weights import load

    return random_checkpoint(SIZES[model]) if model in SIZES else load(model)


def _request(args: Any, config: Any) -> Any:
    from sora_jax.studio.request import resolve

    return resolve(config, args.prompt, steps=args.steps, size=args.size, frames=args.frames)


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
    Cache: _cache,
    Quantize: _quantize,
    Peers: _peers,
    Compare: _compare,
}
