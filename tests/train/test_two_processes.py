"""Two processes train as one: each reads its part of the data, a stop of one stops both, and a kill costs no bit."""

import contextlib
import json
import os
import random
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import two_processes
from two_processes import STEPS, Numbers, jitter

from sora_jax.data.pipeline import batches
from sora_jax.parallel.hosts import missing

LONG = 600  # seconds, for a machine that is busy with something else


@contextlib.contextmanager
def started(*arguments, devices=1):
    """The script in two processes that know of each other."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_PLATFORMS": "cpu",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "true",
        "JAX_NUM_CPU_DEVICES": str(devices),
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
    }
    processes = [
        subprocess.Popen(
            [sys.executable, two_processes.__file__, *arguments],
            env={**shared, "JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()


def to_the_end(folder, task="everything", devices=1):
    """What both processes found, run to their end; fails with what they printed if one fails."""
    with started(folder, task, devices=devices) as processes:
        said = [process.communicate(timeout=LONG)[0] for process in processes]
        assert [process.returncode for process in processes] == [0, 0], "\n".join(said)
    return [json.loads((folder / f"{i}.json").read_text()) for i in range(2)]


def lines_of(folder):
    path = folder / "metrics.jsonl"
    return path.read_text().splitlines() if path.exists() else []


def kill(folder, step, lag, first):
    """Starts the run, or goes on with it, and kills its processes, `lag` seconds apart, when it has come to a step."""
    with started(folder, "killed") as processes:
        begun = time.monotonic()
        while not (lines := lines_of(folder / "killed")) or json.loads(lines[-1])["step"] < step:
            assert time.monotonic() - begun < LONG
            assert processes[0].poll() is None, processes[0].communicate()[0]
            time.sleep(0.002)
        processes[first].kill()
        time.sleep(lag)


def named(process):
    return f"process {process} on {socket.gethostname()}"


def figures(folder):
    """Step, loss and what the batch held, of every step."""
    return [[json.loads(line)[name] for name in ("step", "loss", "first")] for line in lines_of(folder)]


@pytest.mark.slow
def test_two_processes_are_one_run(tmp_path):
    draw = random.Random(0)
    kill(tmp_path, draw.randint(8, 50), draw.uniform(0, 0.2), first=1)
    first, second = to_the_end(tmp_path)
    assert (first["stopped"]["host"], second["stopped"]["host"]) == ([0, 2], [1, 2])

    # One was told to stop, both did, at the same step and long before the end.
    assert 2 < first["stopped"]["step"] == second["stopped"]["step"] < STEPS
    for process in (first, second):
        assert process["whole"]["step"] == STEPS
        assert process["resumed"] == process["whole"]
        assert process["killed"] == process["whole"]
        read, own = process["read"]
        assert own / 2 < read < 1.5 * own  # no other's shards; they are compressed a little
    assert first["whole"]["own"] != second["whole"]["own"]  # each holds its half of the weights
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")
    assert [step for step, *_ in figures(tmp_path / "whole")] == list(range(1, STEPS + 1))

    # The loss is of both processes' examples, and theirs are those of one process.
    alone = batches(Numbers(), batch_size=8, seed=1, random_maps=[jitter])
    for _, _, mean in figures(tmp_path / "whole"):
        np.testing.assert_allclose(mean, next(alone)["x"].mean(), rtol=1e-6)

    # From weights, on batches of two sizes, they do what one process does.
    one = two_processes.from_weights(tmp_path / "alone", jax.devices()[:2])
    both = [*first["from weights"]["own"], *second["from weights"]["own"]]
    np.testing.assert_allclose(both, one["own"], rtol=1e-6)
    by_both, by_one = (np.array(figures(tmp_path / name)) for name in ("from_weights", "alone"))
    np.testing.assert_allclose(by_both, by_one, rtol=1e-6)

    # One process goes on from there.
    two_devices = jax.devices()[:2]
    gone_on = two_processes.run(tmp_path / "killed", STEPS, devices=two_devices, checkpoint_every=4)
    assert gone_on["own"] == [*first["whole"]["own"], *second["whole"]["own"]]
    assert gone_on["bits"] == first["whole"]["bits"]
    two_processes.run(tmp_path / "killed", STEPS + 3, devices=two_devices)
    for _, _, mean in figures(tmp_path / "killed")[STEPS:]:
        np.testing.assert_allclose(mean, next(alone)["x"].mean(), rtol=1e-6)

    # The first process alone evaluates, on the whole moving average.
    evaluated = (tmp_path / "parts" / "metrics.jsonl").read_text()
    assert '"ema_entries": 16.0' in evaluated


@pytest.mark.slow
def test_what_fails_in_one_process_of_two_costs_no_bit(tmp_path):
    alone = two_processes.run(tmp_path / "grown", 6, devices=jax.devices()[:2])
    processes = to_the_end(tmp_path, "mended")

    # Two go on from what one left, with the examples that come next.
    examples = batches(Numbers(), batch_size=8, seed=1, random_maps=[jitter])
    assert [step for step, *_ in figures(tmp_path / "grown")] == list(range(1, 15))
    for _, _, mean in figures(tmp_path / "grown"):
        np.testing.assert_allclose(mean, next(examples)["x"].mean(), rtol=1e-6)
    for process in processes:
        assert process["grown from"] == {"bits": alone["bits"], "next": 6}
        np.testing.assert_allclose(process["grown"]["own"], process["alike"]["own"], rtol=1e-5)

        # What one can't read, neither takes.
        assert process["damaged"] == process["whole"]

        # What one can't write stops both, with the reason.
        assert "the checkpoint of step 8 couldn't be written to " in process["full"]
        assert "that of step 4 is whole; make room there" in process["full"]
        assert process["left"] == ["4"]
        assert process["full and again"] == process["whole"]
        assert "File too large" in process["full"]
        assert "another run is training in " in process["another's"]
    assert named(1) in processes[0]["full"]
    assert processes[1]["another's"].startswith(named(0))
    assert (tmp_path / "damaged" / "damaged-8").is_dir()


@pytest.mark.slow
def test_one_that_hangs_is_named_by_the_other(tmp_path):
    first, second = to_the_end(tmp_path, "hung")
    assert first["reading data"].startswith(f"{named(1)} didn't come to step 1 within 5 s")
    assert second["evaluating"].startswith(f"{named(0)} didn't come to step 2 within 5 s")
    where = "the end of reading the checkpoint of step 4"
    assert first["restoring"].startswith(f"{named(1)} didn't come to {where} within 5 s")
    assert (
        f"couldn't be written to {tmp_path / 'saving'} ({named(1)} didn't write its part" in first["saving"]
    )


@pytest.mark.slow
def test_a_denoiser_on_meshes_across_processes_is_as_in_one(tmp_path):
    to_the_end(tmp_path, "on_meshes", devices=2)
    for name in two_processes.MESHES:
        alone = jax.tree.leaves(two_processes.denoiser(tmp_path / f"alone, {name}", name, jax.devices()[:4]))
        with np.load(tmp_path / f"{name}.npz") as found:
            for i, leaf in enumerate(alone):
                np.testing.assert_allclose(found[f"arr_{i}"], leaf, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_twenty_kills_cost_no_bit(tmp_path):
    steps = sorted(random.sample(range(5, STEPS), 20))  # a checkpoint is there
    for step in steps:
        kill(tmp_path, step, random.choice([0.0, random.uniform(0, 0.3)]), first=random.randrange(2))
    for process in to_the_end(tmp_path):
        assert process["killed"] == process["whole"]
    assert figures(tmp_path / "killed") == figures(tmp_path / "whole")


def test_only_a_barrier_s_time_out_names_processes():
    said = "DEADLINE_EXCEEDED: Barrier timed out. Id: b::0.\nSome timed out task names:\n3\n11\n\n\nRPC: /xla.Barrier"
    assert missing(said) == [3, 11]
    assert missing("UNAVAILABLE: Socket closed, code 14") == []
