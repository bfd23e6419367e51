"""Two processes train as one: each reads its part of the data, and a stop of one is a stop of both."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
from two_processes import STEPS, Numbers

from sora_jax.data.pipeline import batches

SCRIPT = Path(__file__).parent / "two_processes.py"
LONG = 600  # seconds, for a machine that is busy with something else


def together(*arguments):
    """Runs the script in two processes that know of each other; what they printed if one fails."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    shared = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "1",
        "JAX_CPU_COLLECTIVES_IMPLEMENTATION": "gloo",
        "JAX_COORDINATOR_ADDRESS": f"127.0.0.1:{port}",
        "JAX_NUM_PROCESSES": "2",
    }
    started = [
        subprocess.Popen(
            [sys.executable, SCRIPT, *arguments],
            env={**shared, "JAX_PROCESS_ID": str(i)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]
    try:
        said = [process.communicate(timeout=LONG)[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)


def test_two_processes_are_one_run(tmp_path):
    together(str(tmp_path))
    first, second = (json.loads((tmp_path / f"{i}.json").read_text()) for i in range(2))
    assert (first["stopped"]["host"], second["stopped"]["host"]) == ([0, 2], [1, 2])

    # One was told to stop, both did, at the same step and long before the end.
    assert 2 < first["stopped"]["step"] == second["stopped"]["step"] < STEPS
    for process in (first, second):
        assert process["whole"]["step"] == STEPS
        assert process["resumed"] == process["whole"]
    assert first["whole"]["own"] != second["whole"]["own"]  # each holds its half of the weights

    # The loss is of both processes' examples.
    lines = (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()
    parts = [next(batches(Numbers(), batch_size=8, seed=1, host=i, hosts=2))["x"] for i in range(2)]
    assert len(parts[0]) == 4
    metrics = json.loads(lines[0])
    np.testing.assert_allclose(metrics["first"], np.concatenate(parts).mean(), rtol=1e-6)

    # The first process alone evaluates, on the whole moving average.
    evaluated = (tmp_path / "parts" / "metrics.jsonl").read_text()
    assert '"ema_entries": 16.0' in evaluated
