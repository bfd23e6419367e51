"""One of the processes of a run on two hosts; `test_two_processes.py` starts both.

Arguments: the folder and, for a run that waits to be killed, the word "killed".
"""

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path

import jax
import numpy as np
import optax
from flax import linen as nn

from sora_jax.data.pipeline import bucketed_batches
from sora_jax.parallel import MeshConfig, data_host, make_mesh, start
from sora_jax.train import loop
from sora_jax.train.checkpoint import Checkpoints, checksum
from sora_jax.train.loop import LoopConfig, train
from sora_jax.train.state import initial_state

STEPS = 60
LARGE = 1024


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
        time.sleep(0.6 * jax.process_index())
        return super().__getitem__(index)


def loss_fn(params, batch, key):
    error = batch["x"] @ params["w"] - 1.0
    return jax.numpy.mean(error**2), {"first": batch["x"].mean()}


def state_on(mesh, tx, size=4, params=None):
    def init():
        axes = nn.with_logical_partitioning(nn.initializers.normal(), ("embed", "mlp"))
        return {"w": axes(jax.random.key(0), (size, size))}

    return initial_state(init, tx, mesh, params)


def run(folder, steps, evaluate=None, source=None, devices=None, params=None, sizes=(), **fields):
    config = LoopConfig(
        steps=steps, batch_size=8, **{"checkpoint_every": 1000, "log_every": 1, "sample_every": 1, **fields}
    )
    mesh, tx = make_mesh(MeshConfig(data=1, fsdp=2), devices), optax.adamw(1e-2)
    state, shardings = state_on(mesh, tx, params=params)
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

    state, _ = state_on(make_mesh(MeshConfig(data=1, fsdp=2)), optax.sgd(0.1), LARGE)
    with Checkpoints(folder, {}) as checkpoints:
        checkpoints.save(state, {"next_index": 0})
        checkpoints.check(wait=True)
        before = count()
        checkpoints.restore(state)
        read = count() - before
    return read, sum(part.data.nbytes for leaf in jax.tree.leaves(state) for part in leaf.addressable_shards)


def from_weights(folder, devices=None):
    """A run that starts from weights, on batches of two sizes."""
    params = {"w": np.random.default_rng(0).standard_normal((4, 4), np.float32)}
    return run(folder, 8, devices=devices, params=params, sizes=(8, 4))


def hang(folder):
    """What the process that waited says of the one that hung."""
    try:
        run(folder, 3, source=Hanging(), host_timeout=1.0)
    except Exception as error:
        return str(error)


def main(folder: Path, killed: str = ""):
    loop.matmul_peak = lambda: 1e9  # its measure takes longer than these runs
    start()
    if killed:
        run(folder / "killed", STEPS, checkpoint_every=4)
        return
    found = {
        "whole": run(folder / "whole", STEPS),
        "from weights": from_weights(folder / "from_weights"),  # before the stop, which JAX never forgets
        "stopped": run(folder / "parts", STEPS, stop_soon),
        "resumed": run(folder / "parts", STEPS),
        "killed": run(folder / "killed", STEPS, checkpoint_every=4),
        "read": read_of(folder / "large"),
        "hung": hang(folder / "hung"),
    }
    (folder / f"{jax.process_index()}.json").write_text(json.dumps(found))
    while not (folder / "1.json").exists():  # the first process ends last: the others need it
        time.sleep(0.05)
    sys.stdout.flush()
    os._exit(0)  # nothing more can be agreed on with one that hung


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
