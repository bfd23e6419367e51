"""Saves one checkpoint after another until it is killed; `test_checkpoint.py` starts it. Arguments: the folder."""

import sys
from pathlib import Path

import jax.numpy as jnp

from sora_jax.train.checkpoint import Checkpoints
from sora_jax.train.state import TrainState

SHAPE = (8, 1024, 1024)


def state_of(step):
    """32 MB, all of the step's number."""
    full = jnp.full(SHAPE, step, jnp.float32)
    return TrainState(step=jnp.int32(step), params={"w": full}, ema={}, opt_state=())


def main(folder: Path):
    checkpoints = Checkpoints(folder, {})
    for step in range(1, 100_000):
        print(step, flush=True)
        checkpoints.save(state_of(step), {"next_index": step})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
