"""`--distributed` is for the start of the hosts, and no field of the experiment."""

import pytest

from sora_jax import parallel
from sora_jax.cli.main import main


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
