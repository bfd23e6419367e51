from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.ops import attention_heads
from sora_jax.ops.attention import attention, cudnn_or_xla, xla
from sora_jax.ops.attention_heads import heads_first

B, N, S, K, E = 2, 5, 7, 3, 8


@pytest.fixture(scope="module")
def qkv():
    keys = jax.random.split(jax.random.key(0), 3)
    return tuple(jax.random.normal(key, (B, n, K, E)) for key, n in zip(keys, (N, S, S), strict=True))


def exact(q, k, v, bias=0.0, scale=E**-0.5):
    """The definition, in float64, head by head."""
    q, k, v = (np.asarray(a, np.float64) for a in (q, k, v))
    logits = np.einsum("bnke,bske->bkns", q, k) * scale + np.asarray(bias, np.float64)
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return np.einsum("bkns,bske->bnke", weights, v)


def test_every_lowering_is_the_definition(qkv):
    bias = jax.random.normal(jax.random.key(1), (1, K, N, S))
    for lowering in (heads_first, xla, cudnn_or_xla):
        np.testing.assert_allclose(lowering(*qkv, scale=0.3), exact(*qkv, scale=0.3), atol=2e-6)
        np.testing.assert_allclose(lowering(*qkv, bias, scale=0.3), exact(*qkv, bias, 0.3), atol=2e-6)
    np.testing.assert_allclose(attention(*qkv), exact(*qkv), atol=2e-6)
    np.testing.assert_allclose(attention(*qkv, bias=bias, scale=1.0), exact(*qkv, bias, 1.0), atol=4e-6)


def test_masked_keys_count_for_nothing(qkv):
    q, k, v = qkv
    mask = jnp.arange(S)[None, :] < jnp.array([[4], [6]])
    out = attention(q, k, v, mask)
    noise = jnp.where(mask[:, :, None, None], 0.0, 100.0)
    np.testing.assert_array_equal(attention(q, k + noise, v - noise, mask), out)
    np.testing.assert_allclose(out[:1], exact(q[:1], k[:1, :4], v[:1, :4]), atol=2e-6)
    bias = jax.random.normal(jax.random.key(2), (1, 1, N, S))
    biased = attention(q, k, v, mask, bias)
    np.testing.assert_allclose(biased[:1], exact(q[:1], k[:1, :4], v[:1, :4], bias[..., :4]), atol=2e-6)


def test_without_any_key_the_answer_is_zero_and_so_is_its_gradient(qkv):
    none = jnp.zeros((B, S), bool)
    out, back = jax.vjp(lambda *a: attention(*a, none), *qkv)
    assert not out.any()
    assert all(not g.any() for g in back(jnp.ones_like(out)))


def test_half_precision_keeps_its_type_and_a_float32_softmax(qkv):
    half = tuple(a.astype(jnp.bfloat16) for a in qkv)
    out = attention(*half)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), exact(*qkv), atol=3e-2)


def test_gradients_agree_between_lowerings(qkv):
    def loss(f):
        return jax.grad(lambda a: jnp.sum(jnp.sin(f(*a))))(qkv)

    for a, b in zip(loss(attention), loss(partial(xla, scale=E**-0.5)), strict=True):
        np.testing.assert_allclose(a, b, atol=3e-6)


@pytest.mark.parametrize("scores", [1, 2 * N * S, 2**21])
@pytest.mark.parametrize("bias_shape", [None, (1, K, N, S), (B, 1, 1, S)])
def test_heads_in_turns_give_the_same_and_the_same_gradients(qkv, monkeypatch, scores, bias_shape):
    monkeypatch.setattr(attention_heads, "SCORES", scores)
    bias = None if bias_shape is None else jax.random.normal(jax.random.key(3), bias_shape)

    def of(f):
        def loss(q, k, v, bias):
            return jnp.sum(jnp.sin(f(q, k, v, bias, scale=0.3)))

        return jax.value_and_grad(loss, (0, 1, 2) if bias is None else (0, 1, 2, 3))(*qkv, bias)

    def plain(q, k, v, bias, scale):
        scores = jnp.einsum("bnke,bske->bkns", q, k) * scale + (0.0 if bias is None else bias)
        return jnp.einsum("bkns,bske->bnke", jax.nn.softmax(scores, axis=-1), v)

    jax.tree.map(
        partial(np.testing.assert_allclose, atol=3e-6, rtol=1e-6), of(attention_heads.heads_first), of(plain)
    )
    turns = str(jax.make_jaxpr(partial(attention_heads.heads_first, scale=0.3))(*qkv, bias)).count("scan[")
    assert turns == (scores < B * K * N * S)
