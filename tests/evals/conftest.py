import pytest


@pytest.fixture(autouse=True)
def no_benchmark(monkeypatch):
    """A run's measure of the machine's matmul peak takes longer than the runs here."""
    for place in ("train.loop", "evals.bench.machine"):
        monkeypatch.setattr(f"sora_jax.{place}.matmul_peak", lambda: 1e9)
