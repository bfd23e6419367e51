"""One of the processes of a run on two hosts; `test_two_processes.py` starts both. Arguments: the folder."""

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

from sora_jax.data.pipeline import batches
from sora_jax.parallel import MeshConfig, data_host, make_mesh, start
from sora_jax.train.loop import LoopConfig, train
from sora_jax.train.state import initial_state

STEPS = 60


class Numbers:
    """Example i holds i."""

    def __len__(self):
        return 37

    def __getitem__(self, index):
        return {"x": np.full((4,), index / 37, np.float32)}


def loss_fn(params, batch, key):
    error = batch["x"] @ params["w"] - 1.0
    return jax.numpy.mean(error**2), {"first": batch["x"].mean()}


def run(folder, steps, evaluate=None):
    config = LoopConfig(steps=steps, batch_size=8, checkpoint_every=1000, log_every=1, sample_every=1)
    mesh, tx = make_mesh(MeshConfig(data=1, fsdp=2)), optax.adamw(1e-2)

    def init():
        axes = ("embed", "mlp")
        return {"w": nn.with_logical_partitioning(nn.initializers.normal(), axes)(jax.random.key(0), (4, 4))}

    state, shardings = initial_state(init, tx, mesh)
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
        data=batches(Numbers(), batch_size=8, seed=1, host=host, hosts=hosts),
        evaluate=evaluate,
    )
    (own,) = state.params["w"].addressable_shards
    return {"step": int(state.step), "host": [host, hosts], "own": np.asarray(own.data).tolist()}


def stop_soon(state, step):
    """The first process alone is told to stop, as a machine that is taken away is, and the others hear of it soon."""
    if step == 2:
        os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(0.2)
    return {"ema_entries": state.ema["w"].size}


def main(folder: Path):
    start()
    found = {"whole": run(folder / "whole", STEPS)}
    found["stopped"] = run(folder / "parts", STEPS, stop_soon)
    found["resumed"] = run(folder / "parts", STEPS)
    (folder / f"{jax.process_index()}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
