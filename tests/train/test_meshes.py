"""The denoiser's loss and gradients don't depend on how it lies on devices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from sora_jax.models.dit import DiT, DiTConfig
from sora_jax.parallel import MeshConfig, batch_sharding, make_mesh, place_batch, shardings, spread
from sora_jax.train.step import mean_gradients

DIT = DiT(
    DiTConfig(
        in_channels=3,
        out_channels=3,
        patch=(1, 2, 2),
        width=24,
        depth=2,
        heads=4,
        ffn_width=32,
        text_width=8,
        freq_width=16,
        remat="full",
        init="published",
    )
)
B, T, H, W, S = 4, 3, 4, 6, 5
FAST = {"xla_backend_optimization_level": 0}


def init():
    x, text = jnp.zeros((1, T, H, W, 3)), jnp.zeros((1, S, 8))
    return DIT.init(jax.random.key(0), x, jnp.zeros((1, T)), text)["params"]


def batch():
    draw = np.random.default_rng(0).standard_normal
    return {
        "x": draw((B, T, H, W, 3), np.float32),
        "target": draw((B, T, H, W, 3), np.float32),
        "timestep": 1000 * np.random.default_rng(1).random((B, T), np.float32),
        "text": draw((B, S, 8), np.float32),
        "mask": np.arange(S)[None, :] < np.array([[2], [5], [3], [4]]),
    }


def loss(params, batch):
    v = DIT.apply({"params": params}, batch["x"], batch["timestep"], batch["text"], batch["mask"])
    return jnp.mean(jnp.square(v - batch["target"]))


@pytest.fixture(scope="module")
def one_device():
    params = jax.jit(lambda: nn.unbox(init()), compiler_options=FAST)()
    return params, jax.jit(jax.value_and_grad(loss), compiler_options=FAST)(params, batch())


@pytest.mark.parametrize(
    ("axes", "method"),
    [
        ({"data": 1, "fsdp": 2, "context": 4}, "ring"),
        ({"data": 1, "fsdp": 2, "context": 2, "tensor": 2}, "ulysses_ring"),
    ],
    ids=str,
)
def test_loss_and_gradients_equal_one_device_s(axes, method, one_device):
    params, (value, gradients) = one_device
    mesh = make_mesh(MeshConfig(**axes))
    places = shardings(jax.eval_shape(init), mesh)

    def on_mesh(params, batch):
        with spread(mesh, method):
            return jax.value_and_grad(loss)(params, batch)

    step = jax.jit(on_mesh, out_shardings=(None, places), compiler_options=FAST)
    cut_value, cut_gradients = step(jax.device_put(params, places), place_batch(batch(), mesh))
    np.testing.assert_allclose(cut_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut_gradients, gradients)
    kernel = cut_gradients["blocks"]["ffn_in"]["kernel"]
    assert kernel.sharding.spec == PartitionSpec(None, ("fsdp", "context"), "tensor")


def test_accumulated_parts_on_a_mesh_are_the_whole_batch(one_device):
    params, (value, gradients) = one_device
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, context=4))
    places = shardings(jax.eval_shape(init), mesh)

    def on_mesh(params, batch):
        with spread(mesh, "ulysses"):
            return mean_gradients(
                *(params, batch, jax.random.key(0)),
                loss_fn=lambda params, batch, key: (loss(params, batch), {}),
                accumulate=2,
            )

    step = jax.jit(on_mesh, out_shardings=(None, None, places), compiler_options=FAST)
    cut_value, _, cut_gradients = step(jax.device_put(params, places), place_batch(batch(), mesh))
    np.testing.assert_allclose(cut_value, value, rtol=1e-5)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut_gradients, gradients)


def test_between_attentions_too_a_device_holds_its_own_tokens_alone():
    """No module says so: XLA carries the cut from the attention to what lies before and after it."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, context=4))
    places, rows = shardings(jax.eval_shape(init), mesh), batch_sharding(mesh)
    params = jax.eval_shape(lambda: nn.unbox(init()))
    shapes = [(B, 4, 4, 8, 3), (B, 4), (B, S, 8)]
    tokens = 4 * 2 * 4

    def velocity(params, *inputs):
        with spread(mesh, "ring"):
            return DIT.apply({"params": params}, *inputs)

    inputs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    step = jax.jit(velocity, in_shardings=(places, rows, rows, rows), compiler_options=FAST)
    text = step.lower(params, *inputs).compile().as_text()
    assert f"f32[{B // 2},{tokens // 4},32]" in text  # the FFN's inner activations
    assert f"f32[{B // 2},{tokens},32]" not in text
