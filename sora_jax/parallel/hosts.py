"""Joining the processes of a run on many hosts (a TPU pod, a Slurm job) into one JAX program."""

import os

import jax


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
