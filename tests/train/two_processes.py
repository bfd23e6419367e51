"""One of the processes of a run on two hosts; `test_two_processes.py` starts both.

Arguments: the folder, and the name of one of TASKS or, for a run that waits to be killed, the word "killed".
"""

import dataclasses
import json
import os
import resource
import signal
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
import optax
from flax import linen as nn
from jax.experimental import multihost_utils

from sora_jax.data.pipeline import bucketed_batches
from sora_jax.parallel import MeshConfig, data_host, make_mesh, start
from sora_jax.parallel.hosts import Meeting, gather
from sora_jax.train import loop
from sora_jax.train.checkpoint import Checkpoints, checksum
from sora_jax.train.loop import LoopConfig, train
from sora_jax.train.state import initial_state
from sora_jax.train.workdir import lock

STEPS = 60
LARGE = 1024
TIMEOUT = 5.0


class Numbers:
    """Example i holds i."""

    def __len__(self):
        return 37

    def __getitem__(self, index):
        time.sleep(0.002)
        return {"x": np.full((4,), index / 37, np.float32), "index": index}


class Hanging(Numbers):
    """The last of two processes stops reading for a while."""

    def __getitem__(self, index):
        hang(1)
        return super().__getitem__(index)


def hang(process):
    if jax.process_index() == process:
        time.sleep(1.6 * TIMEOUT)


class Filling(Numbers):
    """Once there is a checkpoint, the disk of the last of two processes is full."""

    def __init__(self, checkpoint):
        self._checkpoint, self._left = checkpoint, 4 * 6

    def __getitem__(self, index):
        self._left -= 1
        if self._left == 0 and jax.process_index() == 1:
            while not self._checkpoint.exists():
                time.sleep(0.01)
            room(0)
        return super().__getitem__(index)


def room(size):
    """No file of this process can grow beyond `size`, which writers are told as they are of a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def jitter(example, rng):
    return {"x": example["x"] + 0.01 * rng.standard_normal(4).astype(np.float32)}


def loss_fn(params, batch, key):
    error = batch["x"] @ params["w"] - 1.0
    error += 0.1 * jax.random.normal(key, error.shape)
    return jax.numpy.mean(error**2), {"first": batch["x"].mean()}


def state_on(mesh, tx, shape=(4, 4), params=None):
    def init():
        axes = nn.with_logical_partitioning(nn.initializers.normal(), ("embed", "mlp"))
        return {"w": axes(jax.random.key(0), shape)}

    return initial_state(init, tx, mesh, params)


def run(folder, steps, evaluate=None, source=None, devices=None, params=None, sizes=(), width=4, **fields):
    config = LoopConfig(
        steps=steps, batch_size=8, **{"checkpoint_every": 1000, "log_every": 1, "sample_every": 1, **fields}
    )
    mesh, tx = make_mesh(MeshConfig(data=1, fsdp=2), devices), optax.adamw(1e-2)
    state, shardings = state_on(mesh, tx, (4, width), params)
    host, hosts = data_host(mesh)
    state = train(
        workdir=folder,
        config=config,
        resolved=dataclasses.asdict(config),
        mesh=mesh,
        state=state,
        state_shardings=shardings,
        tx=tx,
        loss_fn=loss_fn,
        data=bucketed_batches(
            [source or Numbers() for _ in sizes or (8,)],
            batch_size=sizes or 8,
            seed=1,
            random_maps=[jitter],
            host=host,
            hosts=hosts,
            prefetch=1,
        ),
        evaluate=evaluate,
    )
    own = [np.asarray(part.data).tolist() for part in state.params["w"].addressable_shards]
    return {"step": int(state.step), "host": [host, hosts], "own": own, "bits": int(checksum(state))}


def stop_soon(state, step):
    """The first process alone is told to stop, as a machine that is taken away is, and the others hear of it soon."""
    if step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    return {"ema_entries": state.ema["w"].size}


def read_of(folder):
    """Bytes that this process reads of files while it restores a state, and the bytes of its own part of that."""

    def count():
        lines = Path("/proc/self/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["rchar"])

    state, _ = state_on(make_mesh(MeshConfig(data=1, fsdp=2)), optax.sgd(0.1), (LARGE, LARGE))
    with Checkpoints(folder, {}) as checkpoints:
        checkpoints.save(state, {"next_index": 0})
        checkpoints.failure(wait=True)
        before = count()
        checkpoints.restore(state)
        read = count() - before
    return read, sum(part.data.nbytes for leaf in jax.tree.leaves(state) for part in leaf.addressable_shards)


def from_weights(folder, devices=None):
    """A run that starts from weights, on batches of two sizes."""
    params = {"w": np.random.default_rng(0).standard_normal((4, 4), np.float32)}
    return run(folder, 8, devices=devices, params=params, sizes=(8, 4))


def told(*arguments, **options):
    """What this process says of a run that doesn't come to its end."""
    try:
        run(*arguments, **options)
    except Exception as error:
        return str(error)


def everything(folder):
    return {
        "whole": run(folder / "whole", STEPS),
        "from weights": from_weights(folder / "from_weights"),  # before the stop, which JAX never forgets
        "stopped": run(folder / "parts", STEPS, stop_soon),
        "resumed": run(folder / "parts", STEPS),
        "killed": run(folder / "killed", STEPS, checkpoint_every=4),
        "read": read_of(folder / "large"),
    }


def restored(folder):
    """What a run of one process left, as each of two finds it."""
    state, _ = state_on(make_mesh(MeshConfig(data=1, fsdp=2)), optax.adamw(1e-2))
    with Checkpoints(folder, json.loads((folder / "config.json").read_text())) as checkpoints:
        state, data = checkpoints.restore(state)
    return {"bits": int(checksum(state)), "next": data["next_index"]}


def damage(folder):
    """Cuts off what the last of two processes wrote, and alone will read."""
    if jax.process_index() == 1:
        files = (path for path in (folder / "state" / "ocdbt.process_1").rglob("*") if path.is_file())
        file = max(files, key=lambda path: path.stat().st_size)
        os.truncate(file, file.stat().st_size // 2)
    gather(None)


def mended(folder):
    """Runs that fail in one of two processes, and go on."""

    def to_the_end(name, steps=14, **options):
        return run(folder / name, steps, checkpoint_every=4, width=256, **options)

    grown = folder / "grown"
    found = {"grown from": restored(grown), "grown": run(grown, 14), "alike": run(folder / "alike", 14)}
    found["whole"] = to_the_end("whole")
    to_the_end("damaged", 8)
    damage(folder / "damaged" / "checkpoints" / "8")
    found["damaged"] = to_the_end("damaged")
    checkpoints = folder / "full" / "checkpoints"
    found["full"] = told(
        folder / "full", 14, source=Filling(checkpoints / "4"), checkpoint_every=4, width=256
    )
    room(resource.RLIM_INFINITY)
    found["left"] = sorted(path.name for path in checkpoints.iterdir() if path.name.isdigit())
    found["full and again"] = to_the_end("full")
    held = lock(folder / "full") if jax.process_index() == 0 else None
    found["another's"] = told(folder / "full", 15, checkpoint_every=4)
    del held
    return found


def hung(folder):
    """What is said where one of two processes hangs."""

    def of(name, evaluate=None, **options):
        return told(folder / name, 8, evaluate, checkpoint_every=4, host_timeout=TIMEOUT, **options)

    found = {
        "reading data": of("data", source=Hanging()),
        "evaluating": of("evaluating", lambda state, step: hang(0)),
    }
    background, read = Meeting.background, Checkpoints._read

    def slow_background(self, **options):
        if threading.current_thread() is not threading.main_thread():
            hang(1)
        return background(self, **options)

    def slow_read(self, *arguments):
        hang(1)
        return read(self, *arguments)

    run(folder / "restoring", 4)
    Checkpoints._read = slow_read
    found["restoring"] = of("restoring")
    Meeting.background = slow_background
    found["saving"] = of("saving")
    return found


def on_meshes(folder):
    """Three steps of a small denoiser on meshes that cross the processes."""
    for name in MESHES:
        params = denoiser(folder / name, name)
        if jax.process_index() == 0:
            np.savez(folder / f"{name}.npz", *jax.tree.leaves(params))
    return {}


def denoiser(folder, name, devices=None):
    """Its parameters after three steps."""
    import test_meshes

    clips = test_meshes.clips()

    class Clips:
        def __len__(self):
            return test_meshes.B

        def __getitem__(self, index):
            return {name: values[index] for name, values in clips.items()}

    config = LoopConfig(steps=3, batch_size=test_meshes.B, sample_every=0)
    mesh, tx = make_mesh(MeshConfig(**MESHES[name]), devices), test_meshes.TX
    state, shardings = initial_state(test_meshes.init_dit, tx, mesh)
    host, hosts = data_host(mesh)
    state = train(
        workdir=folder,
        config=config,
        resolved={},
        mesh=mesh,
        state=state,
        state_shardings=shardings,
        tx=tx,
        loss_fn=test_meshes.dit_loss,
        data=bucketed_batches([Clips()], batch_size=test_meshes.B, seed=1, host=host, hosts=hosts),
    )
    return multihost_utils.process_allgather(state.params, tiled=True)


MESHES = {
    "data and fsdp": {"data": 2, "fsdp": 2},
    "context": {"data": 1, "context": 4},
}
TASKS = {"everything": everything, "mended": mended, "hung": hung, "on_meshes": on_meshes}


def main(folder: Path, task: str):
    loop.matmul_peak = lambda: 1e9  # its measure takes longer than these runs
    start()
    if task == "killed":
        run(folder / "killed", STEPS, checkpoint_every=4)
        return
    (folder / f"{jax.process_index()}.json").write_text(json.dumps(TASKS[task](folder)))
    while not (folder / "1.json").exists():  # the first process ends last: the others need it
        time.sleep(0.05)
    sys.stdout.flush()
    os._exit(0)  # nothing more can be agreed on with one that hung


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
