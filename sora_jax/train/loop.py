"""The training loop: data in, steps, metrics out, checkpoints, and a clean stop. It knows no model and no dataset."""

import contextlib
import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grain
import jax
import numpy as np
import optax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sora_jax.parallel import data_host, place_batch, spread
from sora_jax.parallel.context import Method
from sora_jax.parallel.hosts import Meeting, gather
from sora_jax.train.checkpoint import Checkpoints
from sora_jax.train.flops import count_flops, matmul_peak
from sora_jax.train.metrics import MetricsWriter
from sora_jax.train.skip import Recent, Skip, guarded_step
from sora_jax.train.state import TrainState
from sora_jax.train.step import LossFn
from sora_jax.train.stop import StopRequests
from sora_jax.train.workdir import defaults_of


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoopConfig:
    steps: int = 1000
    batch_size: int = 32
    accumulate: int = 1
    """The batch is computed in this many equal parts."""
    ema_decay: float = 0.999
    """Of the moving average, which is what is sampled from; 0 keeps none, and a quarter of the state's memory free."""
    seed: int = 0
    checkpoint_every: int = 200
    keep: int = 2
    """The newest so many checkpoints are kept."""
    keep_every: int = 0
    """Beside them those of every so many steps, for good; 0 keeps no others."""
    log_every: int = 10
    sample_every: int = 500
    """A sheet of samples is drawn after every so many steps; 0 draws none."""
    skip: Skip = Skip()
    """Which steps are passed over, since their loss or gradient isn't finite or is many times the usual."""
    host_timeout: float = 1800.0
    """Seconds that the processes of a run wait for one another before each step, and for each one's part of a
    checkpoint; then the missing are named. The first alone draws samples, while the others wait."""

    @property
    def averaged(self) -> bool:
        """Whether a moving average is kept."""
        return self.ema_decay > 0

    def __post_init__(self):
        for name in ("steps", "batch_size", "accumulate", "checkpoint_every", "keep", "log_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}: it must be at least 1.")
        if self.batch_size % self.accumulate:
            raise ValueError(
                f"batch_size {self.batch_size} doesn't divide into {self.accumulate} equal parts."
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}: it lies in [0, 1).")
        if self.keep_every < 0:
            raise ValueError(f"keep_every is {self.keep_every}: it is a number of steps, or 0 for no others.")
        if not self.host_timeout > 0:
            raise ValueError(f"host_timeout is {self.host_timeout}: it is a number of seconds above 0.")


Evaluate = Callable[[TrainState, int], dict[str, float] | None]
Step = Callable[[TrainState, Recent, Any, jax.Array, Any], tuple[TrainState, Recent, dict[str, jax.Array]]]
"""(state, recent, batch, key, frozen) -> state, recent, metrics."""


def step_of(config: LoopConfig, loss_fn: LossFn, tx: optax.GradientTransformation) -> Step:
    """The step of a run, which knows no mesh."""

    def step(state, recent, batch, key, frozen):
        known: Any = {} if frozen is None else {"frozen": frozen}
        return guarded_step(
            state,
            recent,
            batch,
            key,
            rule=config.skip,
            loss_fn=functools.partial(loss_fn, **known),
            tx=tx,
            ema_decay=config.ema_decay,
            accumulate=config.accumulate,
        )

    return step


def step_on(mesh: Mesh, step: Step, state_shardings: TrainState, attention: Method) -> Any:
    """`step` jitted for the mesh: what the loop runs, and what a plan compiles without the devices."""

    def on_mesh(state, recent, batch, key, frozen):
        with spread(mesh, attention):
            return step(state, recent, batch, key, frozen)

    everywhere = NamedSharding(mesh, PartitionSpec())
    return jax.jit(on_mesh, donate_argnums=(0, 1), out_shardings=(state_shardings, everywhere, None))


def train(
    *,
    workdir: Path,
    config: LoopConfig,
    resolved: dict[str, Any],
    mesh: Mesh,
    state: TrainState,
    state_shardings: TrainState,
    tx: optax.GradientTransformation,
    loss_fn: LossFn,
    data: grain.DatasetIterator,
    evaluate: Evaluate | None = None,
    frozen: Any = None,
    attention: Method = "ulysses_ring",
) -> TrainState:
    """Trains `state` up to `config.steps`, going on from the newest checkpoint in `workdir` if there is one.

    `resolved` is the run's whole config, written beside the checkpoints. `frozen`, a tree of arrays that no step
    changes and no checkpoint holds, reaches the loss as its keyword of that name. SIGTERM and Ctrl-C stop after the
    step at hand, with a last checkpoint; of several processes, SIGTERM to one stops all at one step. `data` gives this
    process's part of each batch, and `attention` says how tokens meet that are cut over the mesh's context axis.

    Raises ValueError for another run's folder, when more steps were skipped than `config.skip` bears, and when another
    process doesn't come to a step, or to a checkpoint's writing or reading; OSError when a process can't write its part
    of a checkpoint, in all of them. The newest checkpoint stays whole.
    """
    meeting = Meeting(config.host_timeout)
    checkpoints = Checkpoints(
        workdir,
        resolved,
        keep=config.keep,
        keep_every=config.keep_every,
        may_change=MAY_CHANGE,
        defaults=defaults_of(config),
        meeting=meeting,
    )
    everywhere = NamedSharding(mesh, PartitionSpec())
    past = None
    if checkpoints.newest is not None:
        state, data_state = checkpoints.restore(state)
        past = data_state.pop("recent", None)
        data.set_state(data_state)
    start = int(state.step)
    recent = jax.device_put(Recent.from_json(past, config.skip.window), everywhere)

    step_fn = step_of(config, loss_fn, tx)
    compiled_step = step_on(mesh, step_fn, state_shardings, attention)
    key = jax.jit(lambda: jax.random.key(config.seed), out_shardings=everywhere)()
    metrics = MetricsWriter(workdir, start) if jax.process_index() == 0 else None
    # The devices of one process share its CPU.
    peak = matmul_peak() * mesh.size / jax.local_device_count() if jax.default_backend() == "cpu" else None
    pending, flops = None, Flops(step_fn)
    clock, means, stop = Clock(), Means(), StopRequests()

    def report(
        step: int, values: dict[str, jax.Array], examples: Any, show: Callable[[int, float], None]
    ) -> None:
        values = jax.device_get(values)
        if values.pop("skip"):
            batch = _batch_of_all([] if examples is None else examples.tolist(), mesh)
            _tell_skipped(step, values, batch, config.skip, metrics, workdir)
        else:
            means.add(values)
        if step % config.log_every and step != config.steps:
            return
        values = {**values, **means.read(), "skipped": values["skipped"]}
        show(step, float(values["loss"]))
        rates = clock.read(step)
        if rates:
            rates["flops_per_second"] = flops.a_step() * rates["steps_per_second"]
            if checkpoints.seconds is not None:
                stop.took(1 / rates["steps_per_second"], checkpoints.seconds)
            if peak:
                rates["share_of_peak"] = rates["flops_per_second"] / peak
        if metrics:
            metrics.write(step, {**values, **rates})

    def save(step: int) -> None:
        meeting.wait(f"the checkpoint of step {step}")
        checkpoints.save(state, {**data.get_state(), "recent": recent.to_json()})

    with checkpoints, stop, _progress_bar(start, config.steps) as show:
        for step in range(start + 1, config.steps + 1):
            with clock.waiting():
                batch = dict(next(data))
            examples = batch.pop("index", None)
            batch = place_batch(batch, mesh)
            flops.add(state, recent, batch, key, frozen)
            meeting.wait(f"step {step}", checkpoints.failure())
            with jax.transfer_guard("disallow"):
                state, recent, values = compiled_step(state, recent, batch, key, frozen)
            if pending:
                report(*pending, show)  # one step late: reading it doesn't hold up the device
            pending = (step, values, examples)
            stopped = stop.at(step)
            last = stopped or step == config.steps
            if last:
                report(*pending, show)
            due = config.sample_every and step % config.sample_every == 0 and not stopped
            drawing = evaluate is not None and config.sample_every > 0 and (step == config.steps or due)
            # Of several processes, the one that draws can't be interrupted when it is taken away.
            if last or step % config.checkpoint_every == 0 or (drawing and jax.process_count() > 1):
                save(step)
            if drawing and evaluate:
                figures = stop.unless_asked(functools.partial(_on_first_process, evaluate, state, step))
                if figures and metrics:
                    metrics.write(step, figures)
                clock.pause()
                if stop.asked:
                    save(step)
                    last = True
            if last:
                break
    if metrics:
        metrics.close()
    return state


def _batch_of_all(examples: list[Any], mesh: Mesh) -> list[Any]:
    """The examples of a batch, of which this process has its part."""
    parts = dict(gather([data_host(mesh)[0], examples]))
    return [example for host in sorted(parts) for example in parts[host]]


def _tell_skipped(
    step: int,
    values: dict[str, jax.Array],
    batch: list[Any],
    rule: Skip,
    metrics: MetricsWriter | None,
    workdir: Path,
) -> None:
    """Writes a skipped step and the examples of its batch down. Raises ValueError if it is one too many."""
    told = {name: float(values[name]) for name in ("loss", "gradient_norm")}
    said = f"loss {told['loss']:.4g}, gradient norm {told['gradient_norm']:.4g}"
    if metrics:
        metrics.write_skipped(step, told, batch)
        print(f"sora-jax: step {step} was skipped ({said}).", file=sys.stderr)
    if (count := int(values["skipped"])) > rule.at_most:
        raise ValueError(
            f"{count} of the last {rule.window} steps were skipped, at step {step} ({said}), and the run bears "
            f"{rule.at_most}: look at the examples in {workdir / 'skipped.jsonl'}, or bear more with --skip.at-most."
        )


def _on_first_process(evaluate: Evaluate, state: TrainState, step: int) -> dict[str, float] | None:
    """Of several processes the first evaluates, on a copy of what is sampled from that it alone holds."""
    if jax.process_count() == 1:
        return evaluate(state, step)
    whole = multihost_utils.process_allgather(state.sampled, tiled=True)
    if jax.process_index() != 0:
        return None
    return evaluate(dataclasses.replace(state, params=None, ema=whole, opt_state=None), step)


class Flops:
    """The FLOPs of a step, the mean since they were last asked for: batches differ in shape."""

    def __init__(self, step: Step):
        self._step, self._counted = step, {}
        self._steps = self._sum = 0

    def add(self, state: TrainState, recent: Recent, batch: Any, key: jax.Array, frozen: Any) -> None:
        shapes = tuple(leaf.shape for leaf in jax.tree.leaves(batch))
        if shapes not in self._counted:
            self._counted[shapes] = count_flops(self._step, state, recent, batch, key, frozen)
        self._steps, self._sum = self._steps + 1, self._sum + self._counted[shapes]

    def a_step(self) -> float:
        mean, self._steps, self._sum = self._sum / max(self._steps, 1), 0, 0
        return mean


class Means:
    """The means of figures since they were last read: of a step alone they are those of its kind of batch."""

    def __init__(self):
        self._seen: list[dict[str, Any]] = []

    def add(self, values: dict[str, Any]) -> None:
        self._seen.append(values)

    def read(self) -> dict[str, Any]:
        seen, self._seen = self._seen, []
        return {name: np.mean([values[name] for values in seen]) for name in (seen[0] if seen else ())}


class Clock:
    """Steps a second, and the share of the time in which the loop waited for data, between two readings; a reading
    after a pause starts anew."""

    def __init__(self):
        self._last: tuple[int, float] | None = None
        self._waited = 0.0

    def pause(self) -> None:
        self._last = None

    @contextlib.contextmanager
    def waiting(self) -> Iterator[None]:
        """Around the wait for a batch. The device may be at work meanwhile: it stands still at most as long."""
        began = time.perf_counter()
        yield
        self._waited += time.perf_counter() - began

    def read(self, step: int) -> dict[str, float]:
        """`steps_per_second` and `data_wait` since the last reading; empty where there is none to compare with."""
        now, last, waited = time.perf_counter(), self._last, self._waited
        self._last, self._waited = (step, now), 0.0
        if not last or step <= last[0]:
            return {}
        taken = now - last[1]
        return {"steps_per_second": (step - last[0]) / taken, "data_wait": waited / taken}


MAY_CHANGE = (
    *("steps", "checkpoint_every", "keep", "keep_every", "log_every", "sample_every", "skip", "host_timeout"),
    *("workdir", "mesh", "sizes"),
)


@contextlib.contextmanager
def _progress_bar(start: int, steps: int) -> Iterator[Callable[[int, float], None]]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]:.2f} steps/s"),
        TextColumn("loss {task.fields[loss]:.4f}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    began = time.perf_counter()
    with Progress(*columns, disable=jax.process_index() != 0, refresh_per_second=1) as progress:
        task = progress.add_task("train", total=steps, completed=start, rate=0.0, loss=float("nan"))

        def show(step: int, loss: float) -> None:
            rate = (step - start) / (time.perf_counter() - began)
            progress.update(task, completed=step, rate=rate, loss=loss)

        yield show
