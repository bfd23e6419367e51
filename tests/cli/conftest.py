import os

import pytest
import tiny_model

__all__ = ["model", "work"]


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A folder of random weights."""
    return tiny_model.write(tmp_path_factory.mktemp("weights") / "model")


@pytest.fixture
def work(tmp_path, monkeypatch):
    """An empty folder to run commands in; the environment is put back after."""
    monkeypatch.setenv("SORA_JAX_CACHE", str(tmp_path / "cache"))
    for name in (
        "JAX_COMPILATION_CACHE_DIR",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
        "TF_CPP_MIN_LOG_LEVEL",
    ):
        monkeypatch.setenv(name, os.environ.get(name, "1"))  # so that what the command sets is undone
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder
