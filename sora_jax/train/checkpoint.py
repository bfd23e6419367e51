"""Checkpoints of a run: the train state and the position in the data, saved together, restored to the bit (Orbax).

Orbax writes in the background to a temporary name and renames, so a killed save leaves the checkpoint before it as the
newest. Each holds a checksum of its numbers that doesn't depend on the mesh; one that can't be read, or whose checksum
differs, is named and the one before it taken.
"""

import contextlib
import json
import shutil
import sys
import time
import zlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
from etils import epath
from jax import lax

from sora_jax.parallel.hosts import Meeting, gather
from sora_jax.train import workdir
from sora_jax.train.state import TrainState
from sora_jax.typing import Array


class Checkpoints:
    """The checkpoints under `folder`, of which the newest `keep` stay, and those of every `keep_every` steps (0: no
    others). `config` is the run's resolved config; one folder holds one config (`workdir.keep_config`).

    A context manager: it is left when what was started is on disk. `meeting` is that of the run's processes: what one
    of them can't write or read, none counts as written or takes.

    Raises ValueError if `folder` was made with another config, naming the fields that differ. Fields in `may_change`
    (top-level names, such as `steps`) don't count. So it does if another run trains in `folder`.
    """

    def __init__(
        self,
        folder: Path,
        config: dict[str, Any],
        *,
        keep: int = 2,
        keep_every: int = 0,
        may_change: tuple[str, ...] = (),
        defaults: dict[str, Any] | None = None,
        meeting: Meeting | None = None,
    ):
        self._folder = folder = folder.absolute()
        self._meeting = meeting = meeting or Meeting(3600.0)
        folder.mkdir(parents=True, exist_ok=True)
        self._waiter = ThreadPoolExecutor(1)
        self._saving: tuple[int, Future] | None = None
        self.seconds: float | None = None
        """What the last save took in the background."""
        self._lock, refused = None, None
        try:
            self._lock = workdir.lock(folder) if jax.process_index() == 0 else None
            workdir.keep_config(folder, config, defaults or {}, may_change)
        except ValueError as error:
            refused = error
            self._unlock()
        meeting.wait("the run's folder", refused)
        background = ocp.options.AsyncOptions(
            timeout_secs=max(1, int(meeting.timeout)), barrier_sync_fn=meeting.background
        )
        options = ocp.CheckpointManagerOptions(
            max_to_keep=keep,
            keep_period=keep_every or None,
            enable_async_checkpointing=True,
            async_options=background,
        )
        self._manager = ocp.CheckpointManager(folder / "checkpoints", options=options)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        if kind is None:
            self.close()
            return
        if jax.process_count() == 1:  # others may never come to where they would finish it together
            with contextlib.suppress(Exception):
                self._manager.wait_until_finished()
        self._unlock()

    @property
    def newest(self) -> int | None:
        """The step of the newest whole checkpoint."""
        return self._manager.latest_step()

    def save(self, state: TrainState, data_state: dict[str, Any]) -> None:
        """Starts a save in the background; the one before it is finished first.

        Raises OSError if either can't be written, saying why.
        """
        step = int(state.step)
        if step == self.newest:
            return
        self._finish()
        about = {**data_state, "checksum": [int(checksum(state)), _checksum_of_json(data_state)]}
        items = ocp.args.Composite(state=ocp.args.StandardSave(state), data=ocp.args.JsonSave(about))
        try:
            self._manager.save(step, args=items, force=True)
        except Exception as error:
            raise self._unwritten(step, error) from error
        self._saving = step, self._waiter.submit(self._wait)

    def _wait(self) -> None:
        began = time.monotonic()
        self._manager.wait_until_finished()
        self.seconds = time.monotonic() - began

    def failure(self, wait: bool = False) -> OSError | None:
        """Why the save in the background failed, if it did; with `wait` it is waited for."""
        if self._saving is None or not (wait or self._saving[1].done()):
            return None
        (step, saving), self._saving = self._saving, None
        error = saving.exception()
        return None if error is None else self._unwritten(step, error)

    def _finish(self) -> None:
        if error := self.failure(wait=True):
            raise error

    def _unwritten(self, step: int, error: BaseException) -> OSError:
        names = (path.name for path in (self._folder / "checkpoints").iterdir())
        older = [int(name) for name in names if name.isdigit() and int(name) != step]
        left = f"that of step {max(older)} is whole" if older else "there is none before it"
        mend = "look at that process's log" if isinstance(error, TimeoutError) else "make room there"
        unwritten = OSError(
            f"the checkpoint of step {step} couldn't be written to {self._folder} ({_brief(error)}): {left}; {mend} "
            "and give the same command again."
        )
        unwritten.__cause__ = error
        return unwritten

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]]:
        """The newest checkpoint that is whole, on the shardings of `like` (arrays or ShapeDtypeStructs with shardings):
        each process reads its own shards.

        Damaged ones are named on standard error and moved out of the way, to `damaged-STEP`. Raises ValueError if all
        are.
        """
        reasons: dict[int, str] = {}
        for step in sorted(self._manager.all_steps(), reverse=True):
            found, reason = self._read(step, like)
            self._meeting.wait(f"the end of reading the checkpoint of step {step}")
            reason = next(filter(None, gather(reason)), None)  # what one process can't read, none takes
            if reason is None:
                state, data_state, sums = found
                if sums is None or sums == [int(checksum(state)), _checksum_of_json(data_state)]:
                    self._put_away(reasons)
                    return state, data_state
                reason = "its checksum isn't that of its numbers"
            reasons[step] = reason
        self._unlock()
        step, reason = next(iter(reasons.items()))
        raise ValueError(
            f"no checkpoint in {self._folder} can be read (that of step {step}: {reason}): bring back a copy of one, "
            "or start anew in another --workdir."
        )

    def _read(self, step: int, like: TrainState) -> tuple[Any, str | None]:
        """(state, data's state, its checksums or none), or why not. Waits for no other process."""
        abstract = jax.tree.map(ocp.utils.to_shape_dtype_struct, like)
        folder = epath.Path(self._folder / "checkpoints" / str(step))
        try:
            state = ocp.StandardCheckpointHandler().restore(
                folder / "state", args=ocp.args.StandardRestore(abstract)
            )
            data_state = dict(ocp.JsonCheckpointHandler().restore(folder / "data"))
        except Exception as error:
            return None, _brief(error)
        return (state, data_state, data_state.pop("checksum", None)), None

    def _put_away(self, damaged: dict[int, str]) -> None:
        for step, reason in damaged.items():
            place = self._folder / f"damaged-{step}"
            if jax.process_index() == 0:
                shutil.rmtree(place, ignore_errors=True)
                (self._folder / "checkpoints" / str(step)).rename(place)
                print(
                    f"sora-jax: the checkpoint of step {step} is damaged ({reason}): the one before it is taken, and "
                    f"this one is now {place}.",
                    file=sys.stderr,
                )
        if damaged:
            gather(None)  # the others go on when they are away
            self._manager.reload()

    def close(self) -> None:
        """Waits until what was started is on disk. Raises OSError if it couldn't be written, saying why."""
        try:
            self._finish()
            self._manager.close()
        finally:
            self._unlock()

    def _unlock(self) -> None:
        self._waiter.shutdown(wait=False)
        if self._lock:
            self._lock.close()


def sampled_params(folder: Path) -> tuple[dict[str, Any], int]:
    """The moving average in the newest checkpoint of a run's folder, or parameters where it keeps none, and its step.

    A run may go on in `folder` meanwhile. Raises ValueError if there is no checkpoint, or one that can't be read.
    """
    whole = (int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())
    step = max(whole, default=None)
    if step is None:
        raise ValueError(f"{folder} holds no checkpoint yet: train first.")
    path = epath.Path(folder.absolute() / "checkpoints" / str(step) / "state")
    reader = ocp.PyTreeCheckpointHandler()
    try:
        tree = reader.metadata(path).tree
        name = "ema" if isinstance(tree.get("ema"), dict) else "params"
        as_numpy = jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), {name: tree[name]})
        read = ocp.args.PyTreeRestore(item={name: tree[name]}, partial_restore=True, restore_args=as_numpy)
        return reader.restore(path, args=read)[name], step
    except Exception as error:
        raise ValueError(
            f"the checkpoint of step {step} in {folder} can't be read ({_brief(error)})."
        ) from error


@jax.jit
def checksum(state: Any) -> Array:
    """uint32: Σ mix(bits of entry i ⊕ i), over the arrays and their entries, mod 2³²; `mix` is MurmurHash3's finalizer,
    a bijection, so that no single change passes. The sum is the same in any order, so on any mesh."""
    total = jnp.zeros((), jnp.uint32)
    for number, leaf in enumerate(jax.tree.leaves(state)):
        leaf = leaf.astype(jnp.uint8) if leaf.dtype == jnp.bool_ else leaf
        bits = lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}").astype(jnp.uint32)
        place, stride = jnp.full(leaf.shape, number * 0x9E3779B1 % 2**32, jnp.uint32), 1
        for axis in reversed(range(leaf.ndim)):
            place += lax.broadcasted_iota(jnp.uint32, leaf.shape, axis) * jnp.uint32(stride % 2**32)
            stride *= leaf.shape[axis]
        x = bits ^ (place * jnp.uint32(0x9E3779B1))
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            x = (x ^ (x >> shift)) * jnp.uint32(factor)
        total += jnp.sum(x, dtype=jnp.uint32)
    return total


def _checksum_of_json(value: Any) -> int:
    return zlib.crc32(json.dumps(value, sort_keys=True).encode())


def _brief(error: BaseException) -> str:
    """Its first line, without the middle where it is long: paths are there, and the cause at the end."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    line = lines[0].rstrip(".")
    return line if len(line) < 240 else f"{line[:100]} ... {line[-120:]}"
