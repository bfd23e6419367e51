"""Saves one checkpoint after another until it is killed; `test_train_checkpoint.py` starts it.

Arguments: the folder and, if wanted, the step from which the disk is full.
"""

import resource
import sys
import time
from pathlib import Path

import jax.numpy as jnp
import numpy as np

from sora_jax.train.checkpoint import Checkpoints
from sora_jax.train.state import TrainState

NOISE = np.random.default_rng(0).random((2, 1024, 1024), np.float32)  # it can't be compressed


def state_of(step):
    """8 MB of other numbers at each step."""
    return TrainState(step=jnp.int32(step), params={"w": jnp.asarray(NOISE + step)}, ema={}, opt_state=())


def full_disk():
    """From now on no file can grow beyond 1 MB, which writers are told as they are of a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))


def main(folder: Path, full: int = 0):
    with Checkpoints(folder, {}, keep=1) as checkpoints:
        for step in range(1, 100_000):
            print(step, flush=True)
            if step == full:
                checkpoints.failure(wait=True)
                full_disk()
            checkpoints.save(state_of(step), {"next_index": step})
            while step == full:  # as the loop does before each step
                if error := checkpoints.failure():
                    raise error
                time.sleep(0.01)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *map(int, sys.argv[2:]))
