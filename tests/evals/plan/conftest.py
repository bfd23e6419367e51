"""Optax mixes an int32 count with float32, so the strict casting of the other tests is lifted here."""

import jax
import pytest


@pytest.fixture(autouse=True, scope="package")
def standard_promotion():
    with jax.numpy_dtype_promotion("standard"):
        yield
