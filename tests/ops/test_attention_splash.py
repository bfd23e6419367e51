"""The TPU kernel, interpreted, is the attention that every other platform computes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.ops import attention_splash
from sora_jax.ops.attention import attention
from sora_jax.ops.attention_splash import splash, splash_fits

B, N, S, K, E = 1, 300, 260, 2, 8  # three blocks of 128 are no whole number of held ones


@pytest.mark.parametrize(("packed", "long"), [(False, 8192), (True, 8192), (False, 100), (True, 100)])
def test_it_is_plain_attention_and_so_are_its_gradients(packed, long, monkeypatch):
    monkeypatch.setattr(attention_splash, "LARGEST_BLOCK", 128)
    monkeypatch.setattr(attention_splash, "LONG", long)
    keys = jax.random.split(jax.random.key(0), 4)
    q, k, v, weights = (
        jax.random.normal(key, (B, n, K, E)) for key, n in zip(keys, (N, S, S, N), strict=True)
    )
    segments = (jnp.arange(N)[None] // 120, jnp.arange(S)[None] // 90) if packed else None

    def both(attend):
        def weighed(q, k, v):
            out = attend(q, k, v)
            return jnp.sum(out * weights), out

        (_, out), gradients = jax.value_and_grad(weighed, argnums=(0, 1, 2), has_aux=True)(q, k, v)
        return out, *gradients

    kernel = both(lambda q, k, v: splash(q, k, v, segments, scale=0.3, interpret=True))
    plain = both(lambda q, k, v: attention(q, k, v, scale=0.3, segments=segments))
    for a, b in zip(kernel, plain, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)


def test_where_the_kernel_could_be_chosen_other_platforms_still_compile(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    q = jax.random.normal(jax.random.key(0), (1, 512, 1, 8))
    mask = jnp.arange(512)[None] < 300

    def loss(q):
        return jnp.sum(jnp.square(attention(q, q, q, mask)))

    assert "pallas_call" in str(jax.make_jaxpr(loss)(q))
    kernel = jax.jit(jax.grad(loss))(q)
    monkeypatch.undo()
    np.testing.assert_allclose(kernel, jax.grad(loss)(q), rtol=1e-5, atol=1e-5)


def test_short_sequences_are_left_to_xla():
    assert not splash_fits(80, 1024)
    assert splash_fits(1024, 1024)
