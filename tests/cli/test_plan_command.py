"""`sora-jax plan`: options, JSON, and one line for what can't be."""

import json

import jax
import pytest
import tyro

from sora_jax.cli import bench_options, plan
from sora_jax.cli.main import main
from sora_jax.models.remat import NAMES

RUN = """
import tiny_wan
from sora_jax.data.clips import ClipsConfig
from sora_jax.parallel import MeshConfig
from sora_jax.train.finetune import FineTuneRun

EXPERIMENT = FineTuneRun(
    model=tiny_wan.WORDS,
    start_from="given",
    data=ClipsConfig(folder="given", height=8, width=8, frames=5, aspects=()),
    batch_size=4,
    mesh=MeshConfig(data=1, fsdp=2),
)
"""


@pytest.fixture
def experiment(work):
    path = work / "tiny.py"
    path.write_text(RUN)
    with jax.numpy_dtype_promotion("standard"):  # as optax needs it
        yield str(path)


@pytest.mark.slow
def test_json_of_a_search(experiment, capsys):
    options = ["--topology", "cpu:2", "--data", "2", "--fsdp", "1", "--search", "--tries", "2", "--json"]
    assert main(["plan", experiment, *options]) == 0
    plans = json.loads(capsys.readouterr().out)
    assert len(plans) == 2
    assert all(plan["chips"] == 2 and plan["settings"]["batch_size"] == 4 for plan in plans)


def test_a_table(experiment, capsys):
    assert main(["plan", experiment, "--topology", "cpu:2", "--remat", "none", "--batch", "2"]) == 0
    shown = capsys.readouterr().out
    assert "2 fake devices of this machine" in shown
    assert "remat none" in shown


@pytest.mark.parametrize("name", NAMES)
def test_every_policy_that_the_network_knows_can_be_asked_for(name):
    planned = tyro.cli(plan.Args, args=["a.py", "--topology", "cpu:2", "--remat", name])
    timed = tyro.cli(bench_options.Args, args=["train", "--remat", name])
    assert planned.remat == timed.remat == name


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--topology", "v9:4"], "topology 'v9:4' is none: give one such as v5p:4x4x4"),
        (["--topology", "cpu:2", "--fsdp", "4"], "needs 4 devices and there are 2"),
        (["--topology", "cpu:2", "--batch", "3"], "doesn't divide over data x fsdp = 2"),
        (["--topology", "cpu:2", "--batch", "0"], "batch is 0: it must be at least 1"),
        (["--topology", "cpu:2", "--tries", "0"], "tries is 0"),
        (["--topology", "cpu:2", "--price", "-1"], "price is -1.0: it must be 0 or more"),
    ],
)
def test_one_line_for_what_can_t_be(options, reason, experiment, capsys):
    assert main(["plan", experiment, *options]) == 2
    error = capsys.readouterr().err.strip()
    assert reason in error
    assert len(error.splitlines()) == 1


def test_a_file_that_is_no_experiment(work, capsys):
    (work / "none.py").write_text("x = 1\n")
    assert main(["plan", "none.py", "--topology", "cpu:2"]) == 2
    assert "it must set EXPERIMENT" in capsys.readouterr().err
    assert main(["plan", "missing.py", "--topology", "cpu:2"]) == 2
    assert "there is no experiment file" in capsys.readouterr().err
