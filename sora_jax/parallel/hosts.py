"""Joining the processes of a run on many hosts (a TPU pod, a Slurm job) into one JAX program, and telling which is
missing."""

import itertools
import json
import os
import re
import socket
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils


def start(distributed: bool = False) -> None:
    """Joins this process to the others; before JAX is first used. Does nothing where there are no others.

    There are others if JAX_COORDINATOR_ADDRESS is set (with JAX_NUM_PROCESSES and JAX_PROCESS_ID), if this is a task of
    a Slurm step of several, or if `distributed` says so: then JAX finds them by itself on TPU pods, GKE, Slurm and MPI.

    Raises ValueError if the others can't be found, or don't answer within five minutes.
    """
    address = os.environ.get("JAX_COORDINATOR_ADDRESS")
    tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1"))
    if not (distributed or address or tasks > 1):
        return
    try:
        count, index = (os.environ.get(f"JAX_{name}") for name in ("NUM_PROCESSES", "PROCESS_ID"))
        jax.distributed.initialize(
            address,
            num_processes=None if count is None else int(count),
            process_id=None if index is None else int(index),
        )
    except (ValueError, RuntimeError) as error:
        raise ValueError(
            f"the other processes of the run weren't found ({error}): start one on every host of a TPU pod or with "
            "srun, or set JAX_COORDINATOR_ADDRESS, JAX_NUM_PROCESSES and JAX_PROCESS_ID."
        ) from error


def gather(value: Any) -> list[Any]:
    """What every process gives here, in their order; all come here together. `value` is anything that JSON can hold."""
    if jax.process_count() == 1:
        return [value]
    own = np.frombuffer(json.dumps(value).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(own.size)).ravel()
    texts = multihost_utils.process_allgather(np.pad(own, (0, sizes.max() - own.size)))
    return [json.loads(text[:size].tobytes()) for text, size in zip(texts, sizes, strict=True)]


class Meeting:
    """Where the processes of a run wait for one another, so that one that hangs can be named.

    Made by all processes together; `wait` is called by all of them equally often.
    """

    def __init__(self, timeout: float):
        self._timeout = timeout
        self._hosts = gather(socket.gethostname())

    def wait(self, place: str) -> None:
        """Waits until every process is at `place`.

        Raises ValueError if some aren't within the time-out (seconds), naming them and their hosts.
        """
        if len(self._hosts) == 1:
            return
        from orbax.checkpoint.multihost import get_barrier_sync_fn

        try:
            key = f"sora_jax meeting {next(_NUMBERS)}"
            get_barrier_sync_fn()(key=key, timeout_ms=int(1000 * self._timeout))
        except jax.errors.JaxRuntimeError as error:
            late = missing(str(error))
            if not late:
                raise
            names = ", ".join(f"process {i} on {self._hosts[i]}" for i in late)
            raise ValueError(
                f"{names} didn't come to {place} within {self._timeout:g} s: look at the log there for where it hangs, "
                "and start the run again; it goes on from the newest checkpoint."
            ) from error


# A barrier's name is used once; every process makes as many.
_NUMBERS = itertools.count()


def missing(error: str) -> list[int]:
    """The processes that the coordination service says didn't come to a barrier; none for another error."""
    found = re.search(r"timed out task names:\s*([\d\s,]+)", error)
    return sorted({int(number) for number in re.findall(r"\d+", found[1])}) if found else []
