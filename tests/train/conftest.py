"""Optax mixes an int32 count with float32, so the strict casting of the other tests is lifted here."""

import jax
import pytest


@pytest.fixture(autouse=True)
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(autouse=True)
def no_benchmark(monkeypatch):
    """The loop's measure of the machine's matmul peak takes longer than these runs."""
    monkeypatch.setattr("sora_jax.train.loop.matmul_peak", lambda: 1e9)
