"""Attention that is cut over devices is the attention that isn't, and so are its gradients."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from sora_jax.ops.attention import Spread, attention, self_attention, spread_by
from sora_jax.parallel import MeshConfig, context_attention, make_mesh, spread
from sora_jax.parallel import ring as ring_module
from sora_jax.parallel.context import cross_attention
from sora_jax.parallel.ring import Ring, ring_attention

B, N, K, E = 2, 18, 4, 8
MESHES = {
    "all_gather": {"data": 2, "context": 4},
    "ring": {"data": 1, "fsdp": 2, "context": 4},
    "ulysses": {"data": 1, "fsdp": 2, "context": 2, "tensor": 2},
    "ulysses_ring": {"data": 1, "context": 4, "tensor": 2},
    "ulysses_ring of 8": {"data": 1, "context": 8},
}


@pytest.fixture(scope="module")
def inputs():
    """Queries, keys, values and what the answer is weighed with."""
    return tuple(jax.random.normal(key, (B, N, K, E)) for key in jax.random.split(jax.random.key(0), 4))


def value_and_gradients(attend, q, k, v, weights):
    def weighed(q, k, v):
        out = attend(q, k, v)
        return jnp.sum(out * weights), out

    (_, out), gradients = jax.jit(jax.value_and_grad(weighed, argnums=(0, 1, 2), has_aux=True))(q, k, v)
    return out, *gradients


@pytest.fixture(scope="module")
def packed():
    """Three sequences in one row and two in the other, with a few keys left out, one sequence's all."""
    segments = jnp.repeat(jnp.array([[0, 1, 2], [0, 0, 1]]), N // 3, axis=1)
    mask = jnp.arange(N)[None, :] < jnp.array([[N - 6], [N - 2]])
    return segments, mask


@pytest.fixture(scope="module")
def plain(inputs, packed):
    """The answers on one device: of a whole sequence, and of packed ones."""
    segments, mask = packed
    return {
        "whole": value_and_gradients(attention, *inputs),
        "packed": value_and_gradients(
            lambda q, k, v: attention(q, k, v, mask, segments=(segments, segments)), *inputs
        ),
    }


@pytest.mark.parametrize("case", ["whole", "packed"])
@pytest.mark.parametrize("name", MESHES)
def test_every_method_is_plain_attention(name, case, inputs, packed, plain):
    mesh = make_mesh(MeshConfig(**MESHES[name]))
    segments, mask = packed if case == "packed" else (None, None)

    def attend(q, k, v):
        return context_attention(q, k, v, mask, segments, mesh=mesh, method=name.split()[0])

    for cut, whole in zip(value_and_gradients(attend, *inputs), plain[case], strict=True):
        np.testing.assert_allclose(cut, whole, atol=1e-5)


@pytest.mark.parametrize("case", ["whole", "packed"])
def test_a_ring_of_tpu_s_kernels_is_plain_attention(case, inputs, packed, plain, monkeypatch):
    for front, kernel in (("_accumulate", "_by_kernel"), ("_gradients", "_gradients_by_kernel")):
        by_kernel = functools.partial(getattr(ring_module, kernel), interpret=True)
        monkeypatch.setattr(ring_module, front, by_kernel)
    mesh = make_mesh(MeshConfig(**MESHES["ring"]))
    segments, mask = packed if case == "packed" else (None, None)

    def attend(q, k, v):
        return context_attention(q, k, v, mask, segments, mesh=mesh, method="ring")

    for cut, whole in zip(value_and_gradients(attend, *inputs), plain[case], strict=True):
        np.testing.assert_allclose(cut, whole, atol=1e-5)


def test_plain_attention_keeps_sequences_apart(inputs, packed, plain):
    q, k, v, _ = inputs
    alone = attention(q[:1, 6:12], k[:1, 6:12], v[:1, 6:12])
    np.testing.assert_allclose(plain["packed"][0][:1, 6:12], alone, atol=2e-6)
    assert not plain["packed"][0][0, 12:].any()  # none of their keys is there


def test_the_ring_takes_keys_in_blocks(inputs):
    q, k, v, weights = (a[:, :16] for a in inputs)
    mesh = make_mesh(MeshConfig(data=1, context=2), jax.devices()[:2])
    ring = Ring("context", 2, ((0, 1), (1, 0)), E**-0.5, block=3)
    spec = PartitionSpec(None, "context")

    def attend(q, k, v):
        run = lambda q, k, v: ring_attention(q, k, v, None, None, ring)  # noqa: E731
        return jax.shard_map(run, mesh=mesh, in_specs=(spec,) * 3, out_specs=spec, check_vma=False)(q, k, v)

    cut, whole = (value_and_gradients(f, q, k, v, weights) for f in (attend, attention))
    for a, b in zip(cut, whole, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-5)


def test_a_ring_s_memory_grows_with_its_own_tokens_only():
    """Backward too: what is kept for it are a device's own tokens, not the logits, nor other devices' keys."""
    mesh = make_mesh(MeshConfig(data=1, context=8))

    def bytes_of(method):
        q = jax.ShapeDtypeStruct((1, 8192, 1, 8), jnp.float32)

        def loss(q, k, v):
            return jnp.sum(jnp.square(context_attention(q, k, v, mesh=mesh, method=method)))

        compiled = jax.jit(jax.grad(loss, argnums=(0, 1, 2))).lower(q, q, q).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert bytes_of("ring") < bytes_of("all_gather") / 2


@pytest.mark.parametrize(
    ("mesh", "method", "batch", "says"),
    [
        ({"data": 1, "context": 8}, "ulysses", B, "choose ring, ulysses_ring"),
        ({"data": 1, "tensor": 8}, "ring", B, "choose a tensor axis that divides 4"),
        ({"data": 4, "context": 2}, "ring", B, "choose a multiple of 4"),
    ],
)
def test_what_doesn_t_divide_is_refused(mesh, method, batch, says):
    q = jnp.zeros((batch, N, K, E))
    with pytest.raises(ValueError, match=says):
        context_attention(q, q, q, mesh=make_mesh(MeshConfig(**mesh)), method=method)


def test_modules_meet_a_mesh_only_where_a_program_is_traced_for_it(inputs):
    q, k, v, _ = inputs
    mesh = make_mesh(MeshConfig(data=2, context=4))

    def sends(mesh):
        def attend(q, k, v):
            with spread(mesh, "ring"):
                return self_attention(q, k, v)

        return "ppermute" in str(jax.make_jaxpr(attend)(q, k, v))

    assert sends(mesh)
    assert not sends(make_mesh(MeshConfig()))
    assert "ppermute" not in str(jax.make_jaxpr(self_attention)(q, k, v))


@pytest.mark.parametrize(
    "axes", [{"data": 2, "context": 4}, {"data": 1, "fsdp": 2, "context": 2, "tensor": 2}], ids=str
)
def test_attention_to_a_text_on_a_mesh_is_plain_attention(axes, inputs):
    """As a TPU's mesh has it; 17 queries don't divide over the context axis, and stay whole."""
    q, k, v, weights = inputs
    mask = jnp.arange(5)[None] < jnp.array([[3], [5]])
    mesh = make_mesh(MeshConfig(**axes))
    for n in (16, 17):

        def plain(q, k, v):
            return attention(q, k, v, mask)

        def cut(q, k, v):
            return cross_attention(q, k, v, mask, None, E**-0.5, mesh=mesh)

        given = (q[:, :n], k[:, :5], v[:, :5], weights[:, :n])
        for a, b in zip(value_and_gradients(cut, *given), value_and_gradients(plain, *given), strict=True):
            np.testing.assert_allclose(a, b, atol=1e-5)


def test_it_is_spread_where_a_mesh_is_one_of_tpus(inputs):
    q, k, v, _ = inputs
    seen = []

    def cross(*arguments):
        seen.append(len(arguments))
        return q

    with spread_by(Spread(own=cross, cross=cross)):
        assert attention(q, k, v) is q
        attention(q, k, v, bias=jnp.zeros((1, 1, N, N)))  # a bias is left to XLA
    with spread_by(Spread(own=cross, cross=None)):
        attention(q, k, v)
    assert seen == [6]
