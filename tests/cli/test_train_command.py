"""`sora-jax train`: `--distributed` is for the start of the hosts; at the end it says where the weights are."""

from pathlib import Path

import pytest

from sora_jax import parallel
from sora_jax.cli.main import main
from sora_jax.evals import runs


@pytest.mark.parametrize("flag", [[], ["--distributed"]])
def test_the_hosts_are_joined_before_the_experiment_is_read(flag, work, monkeypatch, capsys):
    started = []
    monkeypatch.setattr(parallel, "start", started.append)
    assert main(["train", "none.py", "--workdir", "run", *flag]) == 2
    assert started == [bool(flag)]
    assert "there is no experiment file none.py" in capsys.readouterr().err


def test_hosts_that_are_not_there_are_one_line(work, monkeypatch, capsys):
    def fail(_):
        raise ValueError("the other processes of the run weren't found: start one on every host.")

    monkeypatch.setattr(parallel, "start", fail)
    assert main(["train", "none.py", "--workdir", "run", "--distributed"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize("written", [True, False])
def test_it_says_where_the_weights_are(written, work, monkeypatch, capsys):
    experiment = Path(__file__).parents[2] / "experiments/train/playground_dit.py"
    monkeypatch.setattr(runs, "run", lambda _, workdir: written and (workdir / "weights").mkdir(parents=True))
    assert main(["train", str(experiment), "--workdir", "run"]) == 0
    weights = str(Path("run", "weights"))
    assert capsys.readouterr().out.strip() == (
        weights if written else "No weights were written: sora-jax convert run DEST does."
    )
