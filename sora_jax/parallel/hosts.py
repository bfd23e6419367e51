"""Joining the processes of a run on many hosts (a TPU pod, a Slurm job) into one JAX program, and telling which is
missing."""

import itertools
import json
import os
import re
import socket
import sys
import time
from typing import Any

import jax
import numpy as np
from jax._src import distributed  # its key-value store has no public name
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
    """Where the processes of a run wait for one another, so that one that hangs can be named, and what stops one of
    them stops all, with its reason.

    Made by all processes together; `wait` is called by all of them equally often, and so is `background`.
    """

    def __init__(self, timeout: float):
        """`timeout` is in seconds."""
        self.timeout = timeout
        self._hosts = gather(socket.gethostname())
        self._own = jax.process_index()
        self._client: Any = distributed.global_state.client if len(self._hosts) > 1 else None
        self._name = f"sora_jax meeting {next(_NUMBERS)}"
        self._waits, self._places = itertools.count(), itertools.count()
        self._left: str | None = None

    def wait(self, place: str, error: Exception | None = None) -> None:
        """Waits until every process is at `place`. A process for which the run ends here gives its `error`.

        Raises that error in its process, and in the others OSError with what it says and of which process. Raises
        ValueError if some don't come within the time-out, naming them and their hosts.
        """
        if self._client:
            if error:
                self._client.key_value_set(f"{self._name}/ends/{self._own}", str(error))
            try:
                self._client.wait_at_barrier(f"{self._name}, {next(self._waits)}", int(1000 * self.timeout))
            except jax.errors.JaxRuntimeError as failure:
                if not (late := missing(str(failure))):
                    raise
                raise ValueError(
                    f"{self._named(late)} didn't come to {place} within {self.timeout:g} s: look at the log there for "
                    "where it hangs, and start the run again; it goes on from the newest checkpoint."
                ) from failure
        if error:
            raise error
        self._raise_what_is_told("ends")

    def background(self, *, key: str, timeout_ms: int) -> None:
        """The barrier of Orbax's thread, which comes to its last one also with an error in hand: that is told to the
        others, who raise it as OSError, and nothing is waited for.

        Raises TimeoutError if some don't come, naming them.
        """
        del key  # every process comes to the same barriers in the same order
        if not self._client:
            return
        if error := sys.exc_info()[1]:
            told = f"{self._name}/failed/{self._own}"
            self._client.key_value_set(told, str(error), allow_overwrite=True)
            return
        place = f"{self._name}/at {next(self._places)}"
        self._client.key_value_set(f"{place}/{self._own}", "")
        ends, pause = time.monotonic() + timeout_ms / 1000, 0.005
        while len(there := self._told(place)) < len(self._hosts):
            self._raise_what_is_told("failed")
            if time.monotonic() > ends:
                late = self._named([i for i in range(len(self._hosts)) if i not in there])
                raise TimeoutError(f"{late} didn't write its part within {timeout_ms / 1000:g} s")
            time.sleep(pause)
            pause = min(2 * pause, 1.0)  # a coordinator of hundreds of hosts isn't to be flooded
        if self._own == 0 and self._left:  # all have left the place before this one
            self._client.key_value_delete(self._left)
        self._left = place

    def _told(self, place: str) -> dict[int, str]:
        return {int(key.rsplit("/", 1)[1]): text for key, text in self._client.key_value_dir_get(place)}

    def _raise_what_is_told(self, place: str) -> None:
        told = self._told(f"{self._name}/{place}") if self._client else {}
        for process in sorted(told):
            raise OSError(f"{self._named([process])}: {told[process]}")

    def _named(self, processes: list[int]) -> str:
        return ", ".join(f"process {i} on {self._hosts[i]}" for i in processes)


# A meeting's name is used once; every process makes as many.
_NUMBERS = itertools.count()


def missing(error: str) -> list[int]:
    """The processes that the coordination service says didn't come to a barrier; none for another error."""
    found = re.search(r"timed out task names:\s*([\d\s,]+)", error)
    return sorted({int(number) for number in re.findall(r"\d+", found[1])}) if found else []
