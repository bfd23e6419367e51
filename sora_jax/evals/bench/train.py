"""The training step as the loop compiles it, on random arrays, and how long a run waits for its data.

FLOPs are those of the loss and its gradients, without what `remat` computes again and without the optimizer's.
"""

import dataclasses
import functools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import grain
import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.data.clips import ClipsConfig
from sora_jax.data.latents import fill
from sora_jax.data.sources import DataConfig, caption_map, open_source
from sora_jax.evals.bench.record import Measure, Peak
from sora_jax.evals.bench.sizes import sized, tokens
from sora_jax.evals.bench.timing import Compiled, Effort, compiled, measured, timed
from sora_jax.models.config import ModelConfig
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.parallel import MeshConfig, make_mesh, place_batch
from sora_jax.train import dit, vae
from sora_jax.train.abstract import AbstractStep, Run, abstract_step
from sora_jax.train.dit import DiTRun
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.flops import count_flops
from sora_jax.train.loop import Clock
from sora_jax.train.optimizer import OptimizerConfig, make_optimizer
from sora_jax.train.skip import Recent
from sora_jax.train.state import TrainState
from sora_jax.train.vae import VAERun

__all__ = ["TrainBench", "captioned_latents", "data_wait", "model_run", "train_step"]

CLIPS, CAPTIONS = 2048, 1000
"""How many latents a measured run reads, and how many captions make its vocabulary."""


def model_run(
    model: str,
    *,
    batch_size: int,
    size: tuple[int, int] | None = None,
    frames: int | None = None,
    dtype: Literal["float32", "bfloat16"] = "float32",
    remat: str | None = None,
    accumulate: int = 1,
    optimizer: Literal["adamw", "muon"] = "adamw",
    mesh: MeshConfig | None = None,
) -> FineTuneRun:
    """A run of a named size on clips of one size, (height, width) and frames: the denoiser on text features, as it is
    fine-tuned. What isn't given is the model's. Raises ValueError for what doesn't fit the network."""
    config = sized(model)
    if remat:
        changed: Any = {"remat": remat}
        config = dataclasses.replace(config, dit=dataclasses.replace(config.dit, **changed))
    defaults = config.defaults
    height, width = size or (defaults.height, defaults.width)
    clips = ClipsConfig(
        folder="random", height=height, width=width, frames=frames or defaults.frames, aspects=()
    )
    return FineTuneRun(
        model=config,
        start_from="random",
        data=clips,
        batch_size=batch_size,
        accumulate=accumulate,
        dtype=dtype,
        optimizer=OptimizerConfig(name=optimizer, learning_rate=1e-4),
        mesh=mesh or MeshConfig(),
    )


def _random(shapes: Any) -> Any:
    """Arrays of these shapes, where they lie: small numbers, tokens of any vocabulary, pixels, and masks that hide
    nothing."""

    def fill_in(key, leaf):
        if jnp.issubdtype(leaf.dtype, jnp.floating):
            return (0.02 * jax.random.normal(key, leaf.shape)).astype(leaf.dtype)
        if leaf.dtype == jnp.bool_:
            return jnp.ones(leaf.shape, bool)
        return jax.random.randint(key, leaf.shape, 0, 256, jnp.int32).astype(leaf.dtype)

    leaves, structure = jax.tree.flatten(shapes)

    def make():
        keys = jax.random.split(jax.random.key(0), max(len(leaves), 1))
        return structure.unflatten([fill_in(key, leaf) for key, leaf in zip(keys, leaves, strict=False)])

    return jax.jit(make, out_shardings=structure.unflatten([leaf.sharding for leaf in leaves]))()


def _state(run: Run, shapes: TrainState) -> TrainState:
    tx = make_optimizer(run.optimizer, run.steps)
    places = jax.tree.map(lambda leaf: leaf.sharding, shapes)
    create = functools.partial(TrainState.create, tx=tx, averaged=run.averaged)
    return jax.jit(create, out_shardings=places)(_random(shapes.params))


@dataclasses.dataclass
class TrainBench:
    """A run's step, compiled and ready to go on: each call is a step on the same batch."""

    run: Run
    abstract: AbstractStep
    program: Compiled
    state: TrainState
    recent: Any
    batch: Any
    key: Any
    frozen: Any

    @classmethod
    def of(cls, run: Run) -> "TrainBench":
        """Compiles. Raises ValueError for a batch that the mesh doesn't divide."""
        abstract = abstract_step(run, make_mesh(run.mesh))
        state, _, batch, key, frozen = abstract.arguments
        return cls(
            run=run,
            abstract=abstract,
            program=compiled(abstract.jitted, *abstract.arguments),
            state=_state(run, state),
            recent=jax.device_put(Recent.none(run.skip.window), key.sharding),
            batch=_random(batch),
            key=jax.device_put(jax.random.key(run.seed), key.sharding),
            frozen=None if frozen is None else _random(frozen),
        )

    def step(self, batch: Any = None) -> Any:
        """One step; gives its metrics."""
        batch = self.batch if batch is None else batch
        self.state, self.recent, metrics = self.program.call(
            self.state, self.recent, batch, self.key, self.frozen
        )
        return metrics


def _mathematics(run: Run) -> float:
    """FLOPs of the loss and its gradients alone."""
    changes: dict[str, Any] = {"optimizer": OptimizerConfig()}
    if not isinstance(run, VAERun):
        network = dataclasses.replace(run.model.dit, remat="none")
        changes["model"] = dataclasses.replace(run.model, dit=network)
    plain = abstract_step(dataclasses.replace(run, **changes), make_mesh(run.mesh))
    return float(count_flops(plain.function, *plain.arguments))


def _each(run: Run) -> dict[str, float]:
    """What one step goes through."""
    if isinstance(run, VAERun):
        frames, height, width, _ = vae.window(run)
        return {
            "clips": run.batch_size,
            "frames": run.batch_size * frames,
            "pixels": run.batch_size * frames * height * width,
        }
    data = run.data
    each = tokens(run.model, data.frames, data.height, data.width)
    return {
        "clips": run.batch_size,
        "frames": run.batch_size * data.frames,
        "tokens": run.batch_size * each,
    }


def train_step(bench: TrainBench, effort: Effort, peak: Peak | None) -> Measure:
    """The step on random arrays, batch and state on the devices."""
    run = bench.run
    trained = jax.tree.leaves(bench.state.params)
    return measured(
        "train step",
        seconds=timed(bench.step, effort, peak=True),
        each=_each(run),
        flops=_mathematics(run),
        peak=peak,
        devices=make_mesh(run.mesh).size,
        program=bench.program,
        figures={
            "parameters": float(sum(leaf.size for leaf in trained)),
            "flops_computed": float(count_flops(bench.abstract.function, *bench.abstract.arguments)),
        },
    )


class _Blank:
    """As many clips of nothing, of which a cache is made from random numbers."""

    def __init__(self, count: int):
        self.count = count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"video": np.zeros((1, 1, 1, 3), np.uint8)}


def captioned_latents(
    model: ModelConfig, data: DataConfig, batch_size: int, folder: Path, **fields: Any
) -> grain.DatasetIterator:
    """A denoiser's pipeline on a cache of random latents with the captions of the clips; `fields` are `DiTRun`'s."""
    data = dataclasses.replace(data, count=min(data.count, CLIPS), keep_in_memory=False)
    run = DiTRun(model=model, vae="random", data=data, batch_size=batch_size, **fields)
    source = open_source(data)
    caption_of, rng = caption_map(source), np.random.default_rng(0)
    captions = [caption_of({"index": i}, rng)["caption"] for i in range(min(len(source), CAPTIONS))]
    cut = run.caption_tokens or model.text.max_length
    tokenize = Tokenizer(train_tokenizer(captions, model.text.vocab), cut)
    shape = model.vae.latent_shape(data.frames, data.height, data.width)
    noise = np.random.default_rng(0)
    fill(
        folder / "latents",
        _Blank(len(source)),
        lambda clips: noise.standard_normal((len(clips), *shape), np.float32),
        made_from={},
    )
    return dit.data_of(run, [folder / "latents"], source, tokenize)


def _data(run: Run, folder: Path) -> grain.DatasetIterator:
    if isinstance(run, VAERun):
        return vae.data_of(run)
    if isinstance(run, DiTRun):
        own = {"seed": run.seed, "caption_tokens": run.caption_tokens}
        return captioned_latents(run.model, run.data, run.batch_size, folder, **own)
    raise ValueError(
        "fine-tuning reads a folder of clips that must be encoded first: measure the experiment of a VAE or a denoiser."
    )


def data_wait(bench: TrainBench, steps: int = 20) -> Measure:
    """The share of the time that steps on the run's own data wait for it, after two that fill the buffer."""
    mesh, clock = make_mesh(bench.run.mesh), Clock()

    def batches(data: grain.DatasetIterator) -> Iterator[Any]:
        while True:
            with clock.waiting():
                batch = dict(next(data))
            batch.pop("index", None)
            yield place_batch(batch, mesh)

    with tempfile.TemporaryDirectory() as folder:
        feed = batches(_data(bench.run, Path(folder)))
        for number in range(-2, steps):
            if number == 0:
                clock.read(0)
            jax.block_until_ready(bench.step(next(feed)))
        figures = clock.read(steps)
    return Measure(name="run on its own data", figures={"steps": float(steps), **figures})
