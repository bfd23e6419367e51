"""Training is the same however it lies on devices: the loss, the gradients, and three steps' parameters and average."""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tiny_model
from flax import linen as nn
from jax.sharding import PartitionSpec

from sora_jax.models.dit import DiT, DiTConfig
from sora_jax.models.vae import VAE
from sora_jax.parallel import MeshConfig, batch_sharding, make_mesh, place_batch, spread
from sora_jax.train.optimizer import OptimizerConfig, make_optimizer
from sora_jax.train.state import TrainState, state_shardings
from sora_jax.train.step import mean_gradients, train_step
from sora_jax.train.vae import VAELossConfig, vae_loss

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
        neighbours=True,
        init="published",
    )
)
AUTOENCODER = VAE(tiny_model.CONFIG.vae)
B, T, H, W, S = 8, 3, 4, 6, 5
FAST = {"xla_backend_optimization_level": 0}
TX = optax.sgd(0.1, momentum=0.9)  # its state after one step is the gradient


def init_dit():
    x, text = jnp.zeros((1, T, H, W, 3)), jnp.zeros((1, S, 8))
    params = DIT.init(jax.random.key(0), x, jnp.zeros((1, T)), text)["params"]
    taps = params["blocks"]["neighbours"]["taps"]  # which start at 0
    params["blocks"]["neighbours"]["taps"] = taps.replace_boxed(jnp.full_like(taps.unbox(), 0.1))
    return params


def init_vae():
    variables = AUTOENCODER.init(jax.random.key(0), jnp.zeros((1, 5, 16, 16, 3)))
    return variables["params"]


def clips():
    draw = np.random.default_rng(0).standard_normal
    return {
        "x": draw((B, T, H, W, 3), np.float32),
        "target": draw((B, T, H, W, 3), np.float32),
        "timestep": 1000 * np.random.default_rng(1).random((B, T), np.float32),
        "text": draw((B, S, 8), np.float32),
        "mask": np.arange(S)[None, :] < np.array([[2], [5], [3], [4], [1], [5], [2], [3]]),
    }


def videos():
    return {"video": np.random.default_rng(0).integers(0, 256, (B, 9, 16, 16, 3), np.uint8)}


def dit_loss(params, batch, key):
    v = DIT.apply({"params": params}, batch["x"], batch["timestep"], batch["text"], batch["mask"])
    return jnp.mean(jnp.square(v - batch["target"])), {}


class Task(NamedTuple):
    init: object
    loss: object
    batch: object


TASKS = {
    "dit": Task(init_dit, dit_loss, clips),
    "vae": Task(init_vae, functools.partial(vae_loss, model=AUTOENCODER, config=VAELossConfig()), videos),
}


@functools.cache
def first_state(name):
    make = jax.jit(lambda: nn.unbox(TrainState.create(TASKS[name].init(), TX)), compiler_options=FAST)
    return jax.device_get(make())


def three_steps(name, mesh=None, method="ulysses_ring"):
    """The losses of three steps, and the states after the first and the last."""
    task, state, batch = TASKS[name], first_state(name), TASKS[name].batch()
    options = {"loss_fn": task.loss, "tx": TX, "ema_decay": 0.9}
    places = None
    if mesh is not None:
        places = state_shardings(task.init, TX, mesh)
        state, batch = jax.device_put(state, places), place_batch(batch, mesh)

    def on_mesh(state, batch, key):
        if mesh is None:
            return train_step(state, batch, key, **options)
        with spread(mesh, method):
            return train_step(state, batch, key, **options)

    outs = None if places is None else (places, None)
    step = jax.jit(on_mesh, out_shardings=outs, compiler_options=FAST)
    losses, states = [], []
    for _ in range(3):
        state, values = step(state, batch, jax.random.key(0))
        losses.append(float(values["loss"]))
        states.append(state)
    return losses, states[0], states[2]


one_device = functools.cache(three_steps)


def assert_as_on_one_device(name, axes, method):
    losses, first, last = three_steps(name, make_mesh(MeshConfig(**axes)), method)
    same, same_first, same_last = one_device(name)
    np.testing.assert_allclose(losses, same, rtol=1e-5)
    for cut, whole in ((first.opt_state, same_first.opt_state), (last, same_last)):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5), cut, whole)
    return last


@pytest.mark.parametrize(
    ("name", "axes", "method"),
    [
        ("dit", {"data": 1, "fsdp": 2, "context": 2, "tensor": 2}, "ulysses_ring"),
    ],
    ids=str,
)
def test_three_steps_equal_one_device_s(name, axes, method):
    last = assert_as_on_one_device(name, axes, method)
    for tree in (last.params, last.ema, last.opt_state[0].trace):
        assert tree["blocks"]["ffn_in"]["kernel"].sharding.spec == PartitionSpec(
            None, ("fsdp", "context"), "tensor"
        )


SHAPES = [
    ({"data": 1, "fsdp": 2, "context": 2, "tensor": 2}, "ulysses_ring"),
    ({"data": 8}, "ulysses_ring"),
    ({"data": 1, "fsdp": 8}, "ulysses_ring"),
    ({"data": 2, "fsdp": 4}, "ulysses_ring"),
    ({"data": 2, "fsdp": 2, "tensor": 2}, "ulysses_ring"),
    ({"data": 1, "fsdp": 2, "tensor": 4}, "ulysses_ring"),
    ({"data": 1, "context": 8}, "ulysses_ring"),
    ({"data": 2, "context": 4}, "all_gather"),
    ({"data": 2, "context": 4}, "ulysses"),
    ({"data": 1, "context": 4, "tensor": 2}, "ulysses_ring"),
    ({"data": 2, "context": 2, "tensor": 2}, "ring"),
    ({"data": 1, "fsdp": 2, "context": 4}, "ring"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
@pytest.mark.parametrize(("axes", "method"), SHAPES, ids=str)
def test_three_steps_equal_one_device_s_on_every_mesh(name, axes, method):
    assert_as_on_one_device(name, axes, method)


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_an_optimizer_does_the_same_on_any_mesh(optimizer):
    tx = make_optimizer(OptimizerConfig(name=optimizer, warmup_steps=0), 10)
    rng = np.random.default_rng(0)
    axes = {"kernel": ("embed", "mlp"), "bias": ("mlp",)}
    shapes = {"kernel": (16, 24), "bias": (24,)}
    grads = {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}

    def init():
        ones = nn.initializers.ones
        return {
            name: nn.with_logical_partitioning(ones, axes[name])(jax.random.key(0), shape)
            for name, shape in shapes.items()
        }

    def two_steps(state, grads):
        params, opt_state = state.params, state.opt_state
        for _ in range(2):
            updates, opt_state = tx.update(grads, opt_state, params)
            params = optax.apply_updates(params, updates)
        return params

    state = nn.unbox(TrainState.create(init(), tx))
    whole = jax.jit(two_steps)(state, grads)
    places = state_shardings(init, tx, make_mesh(MeshConfig(data=1, fsdp=4, tensor=2)))
    cut = jax.jit(two_steps)(jax.device_put(state, places), jax.device_put(grads, places.params))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut, whole)


def test_accumulated_parts_on_a_mesh_are_the_whole_batch():
    losses, first, _ = one_device("dit")
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, context=4))
    places = state_shardings(init_dit, TX, mesh).params

    def on_mesh(params, batch):
        with spread(mesh, "ulysses"):
            return mean_gradients(params, batch, jax.random.key(0), loss_fn=dit_loss, accumulate=2)

    step = jax.jit(on_mesh, out_shardings=(None, None, places), compiler_options=FAST)
    params = jax.device_put(first_state("dit").params, places)
    value, _, gradients = step(params, place_batch(clips(), mesh))
    np.testing.assert_allclose(value, losses[0], rtol=1e-5)
    whole = first.opt_state[0].trace
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), gradients, whole)


def test_between_attentions_too_a_device_holds_its_own_tokens_alone():
    """No module says so: XLA carries the cut from the attention to what lies before and after it."""
    mesh = make_mesh(MeshConfig(data=1, fsdp=2, context=4))
    places, rows = state_shardings(init_dit, TX, mesh).params, batch_sharding(mesh)
    params = jax.eval_shape(lambda: nn.unbox(init_dit()))
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
    # Kernels come whole to the tokens; tokens don't travel to parts of kernels, whose products would be summed.
    assert "all-reduce" not in text
