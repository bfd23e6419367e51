"""Work is counted of the lowering that a platform takes, on all devices, kernels by their grids."""

import jax
import jax.numpy as jnp
import pytest
from jax.sharding import PartitionSpec

from sora_jax.models.dit import REMAT
from sora_jax.ops.attention import attention
from sora_jax.ops.attention_splash import splash
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train.flops import count_flops, work_of

B, N, K, E = 2, 1024, 2, 128
PRODUCT = 2 * B * K * N * N * E
"""FLOPs of q kᵀ."""


@pytest.fixture
def attended(monkeypatch):
    """The jaxprs of attention and of its gradients, as one device traces them."""
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    q = jax.ShapeDtypeStruct((B, N, K, E), jnp.bfloat16)

    def loss(q, k, v):
        return jnp.sum(attention(q, k, v).astype(jnp.float32))

    gradients = jax.grad(loss, argnums=(0, 1, 2))
    return [jax.make_jaxpr(f)(q, q, q).jaxpr for f in (loss, gradients)]


def test_the_kernel_s_backward_pass_computes_logits_twice(attended):
    forward, backward = (work_of(jaxpr, "tpu") for jaxpr in attended)
    assert forward.kernel_flops == forward.flops == 2 * PRODUCT
    # dq: logits, dP, dQ; dk and dv: logits, dP, dK, dV.
    assert backward.kernel_flops == (2 + 3 + 4) * PRODUCT


def test_a_kept_answer_isn_t_computed_again():
    q = jax.ShapeDtypeStruct((B, N, K, E), jnp.bfloat16)

    def kernel_products(policy):
        attend = jax.checkpoint(lambda q: jnp.sin(splash(jnp.sin(q), q, q, scale=0.1)), policy=policy)
        jaxpr = jax.make_jaxpr(jax.grad(lambda q: jnp.sum(attend(q).astype(jnp.float32))))(q)
        return work_of(jaxpr.jaxpr, "tpu").kernel_flops / PRODUCT

    assert kernel_products(REMAT["full"]) == 2 + 2 + 7
    assert kernel_products(REMAT["attention"]) == 2 + 7


def test_the_kernel_s_bytes_are_its_blocks(attended):
    whole = B * K * N * E * 2
    blocks = N // 512
    # Queries and the answer once; keys and values once for every block of queries.
    assert work_of(attended[0], "tpu").kernel_bytes == pytest.approx((2 + 2 * blocks) * whole, rel=0.4)
    assert work_of(attended[0], "cpu").kernel_bytes == 0


def test_other_platforms_do_the_mathematics_alone(attended):
    for platform in ("cuda", None):
        assert [work_of(jaxpr, platform).flops for jaxpr in attended] == [2 * PRODUCT, 6 * PRODUCT]


def test_a_cpu_sums_by_a_column_of_ones_and_computes_logits_twice(attended):
    ones = PRODUCT // E
    assert [work_of(jaxpr, "cpu").flops for jaxpr in attended] == [2 * PRODUCT + ones, 7 * PRODUCT + ones]


def test_every_device_s_part_counts():
    mesh = make_mesh(MeshConfig(data=2, context=4))
    rows = PartitionSpec(("data", "context"))

    def cut(x, w):
        return jax.shard_map(lambda x, w: x @ w, mesh=mesh, in_specs=(rows, PartitionSpec()), out_specs=rows)(
            x, w
        )

    x, w = jnp.ones((16, 4)), jnp.ones((4, 5))
    assert count_flops(cut, x, w) == count_flops(lambda x, w: x @ w, x, w) == 2 * 16 * 4 * 5
