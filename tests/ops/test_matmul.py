"""Products in JAX's matmul precision: rounding happens where it is asked for, and nowhere else."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.ops.matmul import batch_matmul, matmul

CASES = {
    "linear": (matmul, (2, 3, 5), (5, 4), "abi,io->abo"),
    "logits": (lambda a, b: batch_matmul("gne,gse->gns", a, b), (2, 3, 5), (2, 4, 5), "gne,gse->gns"),
    "values": (lambda a, b: batch_matmul("gns,gse->gne", a, b), (2, 3, 4), (2, 4, 5), "gns,gse->gne"),
}


def rounded(a):
    return np.asarray(jnp.asarray(a).astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def exactly(a):
    return np.asarray(a, np.float64)


@pytest.fixture(params=CASES)
def case(request):
    product, left, right, subscripts = CASES[request.param]
    keys = jax.random.split(jax.random.key(0), 3)
    a, b = jax.random.normal(keys[0], left), jax.random.normal(keys[1], right)
    out = np.einsum(subscripts, a, b)
    return product, subscripts, a, b, jax.random.normal(keys[2], out.shape)


@pytest.mark.parametrize("precision", [None, "bfloat16"])
def test_products_and_gradients_are_those_of_operands_at_the_precision(case, precision):
    product, subscripts, a, b, g = case
    seen = rounded if precision else exactly
    inputs, out = subscripts.split("->")
    left, right = inputs.split(",")
    with jax.default_matmul_precision(precision):
        y, back = jax.vjp(jax.jit(product), a, b)
        da, db = back(g)
    assert y.dtype == da.dtype == db.dtype == jnp.float32
    np.testing.assert_allclose(y, np.einsum(subscripts, seen(a), seen(b)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(da, np.einsum(f"{out},{right}->{left}", seen(g), seen(b)), rtol=0, atol=1e-5)
    np.testing.assert_allclose(db, np.einsum(f"{left},{out}->{right}", seen(a), seen(g)), rtol=0, atol=1e-5)


def test_bfloat16_is_summed_in_float32_for_attention_and_stays_bfloat16_in_a_layer():
    a = jnp.ones((1, 1, 1024), jnp.bfloat16)
    assert batch_matmul("gne,gse->gns", a, a).dtype == jnp.float32
    assert matmul(a, a[0].T).dtype == jnp.bfloat16
