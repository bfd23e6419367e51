import pytest


@pytest.fixture(autouse=True)
def no_benchmark(monkeypatch):
    """A run's measure of the machine's matmul peak takes longer than the runs here."""
    monkeypatch.setattr("sora_jax.train.loop.matmul_peak", lambda: 1e9)
