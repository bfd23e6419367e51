import functools
import itertools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from sora_jax.train.flops import count_flops
from sora_jax.train.optimizer import MUON_RMS, OptimizerConfig, learning_rate_schedule, make_optimizer
from sora_jax.train.state import TrainState
from sora_jax.train.step import ema_decay_at, train_step


def squared_error(params, batch, key):
    noise = 0.01 * jax.random.normal(key, batch["y"].shape)
    error = batch["x"] @ params["w"] + noise - batch["y"]
    return jnp.mean(jnp.square(error)), {"largest": jnp.max(jnp.abs(error))}


def noiseless(params, batch, key):
    error = batch["x"] @ params["w"] - batch["y"]
    return jnp.mean(jnp.square(error)), {}


@pytest.fixture
def batch():
    x, y = np.random.default_rng(0).standard_normal((2, 8, 4, 4), np.float32)
    return {"x": jnp.asarray(x), "y": jnp.asarray(y)}


@pytest.fixture
def params():
    return {"w": jnp.ones((4, 4))}


def make_step(loss_fn, tx, **options):
    return jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx, ema_decay=0.99, **options))


def test_accumulated_parts_give_the_whole_batch_s_step(params, batch):
    tx = optax.sgd(0.1)
    whole, metrics = make_step(noiseless, tx)(TrainState.create(params, tx), batch, jax.random.key(0))
    parts, part_metrics = make_step(noiseless, tx, accumulate=4)(
        TrainState.create(params, tx), batch, jax.random.key(0)
    )
    chex.assert_trees_all_close(whole.params, parts.params, rtol=1e-6)
    chex.assert_trees_all_close(metrics["loss"], part_metrics["loss"], rtol=1e-6)


def test_randomness_comes_from_the_step(params, batch):
    tx = optax.sgd(0.0)
    step, key = make_step(squared_error, tx), jax.random.key(3)
    state = TrainState.create(params, tx)
    state, first = step(state, batch, key)
    _, second = step(state, batch, key)
    _, again = step(TrainState.create(params, tx), batch, key)
    assert first["loss"] == again["loss"]
    assert first["loss"] != second["loss"]


def test_ema_follows_by_the_warmed_up_decay(params, batch):
    tx = optax.sgd(0.1)
    state, _ = make_step(noiseless, tx)(TrainState.create(params, tx), batch, jax.random.key(0))
    d = 1 / 10
    chex.assert_trees_all_close(state.ema["w"], d * params["w"] + (1 - d) * state.params["w"], rtol=1e-6)
    assert float(ema_decay_at(jnp.asarray(10**6), 0.99)) == pytest.approx(0.99)


def test_gradients_are_clipped_and_their_norm_told(params, batch):
    tx = make_optimizer(OptimizerConfig(clip=1e-3, warmup_steps=0, learning_rate=1.0), 10)
    _, metrics = make_step(noiseless, tx)(TrainState.create(params, tx), batch, jax.random.key(0))
    grads = jax.grad(lambda p: noiseless(p, batch, None)[0])(params)
    assert float(metrics["gradient_norm"]) == pytest.approx(float(optax.global_norm(grads)), rel=1e-5)


def test_learning_rate_warms_up_stays_and_falls():
    config = OptimizerConfig(learning_rate=1.0, final_learning_rate=0.1, warmup_steps=10, decay_fraction=0.5)
    rate = learning_rate_schedule(config, 110)
    values = [float(rate(n)) for n in range(111)]
    assert values[0] == pytest.approx(0.1)
    assert values[10:60] == pytest.approx([1.0] * 50)
    assert values[110] == pytest.approx(0.1)
    assert all(a >= b for a, b in itertools.pairwise(values[60:]))


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"clip": -1.0}, {"decay_fraction": 2.0}])
def test_optimizer_refuses_what_can_t_be(wrong):
    with pytest.raises(ValueError, match="optimizer"):
        OptimizerConfig(**wrong)


@pytest.mark.parametrize("name", ["adamw", "muon"])
def test_the_first_moment_may_take_half_the_memory(name):
    rng = np.random.default_rng(0)
    params = {
        "linear": {"kernel": jnp.asarray(rng.standard_normal((8, 16)), jnp.float32)},
        "scale": jnp.ones(8),
    }
    moved, held = {}, {}
    for dtype in ("float32", "bfloat16"):
        tx = make_optimizer(OptimizerConfig(name=name, warmup_steps=0, momentum_dtype=dtype), 10)
        state, moved[dtype] = tx.init(params), params
        for scale in (1.0, 0.5):
            grads = jax.tree.map(lambda p, scale=scale: scale * p, params)
            updates, state = tx.update(grads, state, moved[dtype])
            moved[dtype] = optax.apply_updates(moved[dtype], updates)
        held[dtype] = [leaf.dtype for leaf in jax.tree.leaves(state)]
    assert jnp.bfloat16 not in held["float32"]
    assert held["bfloat16"].count(jnp.bfloat16) == 2
    assert jax.tree.leaves(moved["bfloat16"])[0].dtype == jnp.float32
    chex.assert_trees_all_close(moved["bfloat16"], moved["float32"], atol=1e-4)  # of steps of 1e-3


def test_muon_turns_every_kernel_by_as_much_in_all_directions():
    rng = np.random.default_rng(0)
    shapes = {
        "conv": {"kernel": (3, 3, 3, 4, 8)},
        "blocks": {"ffn": {"kernel": (2, 16, 8)}},
        "linear": {"kernel": (8, 16)},
        "norm": {"scale": (8,)},
    }
    params = jax.tree.map(np.zeros, shapes, is_leaf=lambda x: isinstance(x, tuple))
    # The columns are of very different size; Adam would step each entry by the whole learning rate.
    grads = jax.tree.map(lambda p: rng.standard_normal(p.shape) * 2.0 ** np.arange(p.shape[-1]), params)
    config = OptimizerConfig(name="muon", learning_rate=0.1, warmup_steps=0, weight_decay=0.0)
    tx = make_optimizer(config, 10)
    updates, _ = tx.update(grads, tx.init(params), params)
    kernels = [updates["conv"]["kernel"].reshape(-1, 8), updates["linear"]["kernel"]]
    for matrix in [*kernels, *updates["blocks"]["ffn"]["kernel"]]:
        values = np.linalg.svd(matrix, compute_uv=False)
        assert values.max() < 2 * values.min()
        size = np.sqrt(np.mean(np.square(matrix)))
        assert size == pytest.approx(0.1 * MUON_RMS, rel=0.3)
    scale = np.abs(updates["norm"]["scale"])
    np.testing.assert_allclose(scale, scale[0], rtol=0.01)


def test_flops_of_products_loops_and_convolutions():
    a, b = jnp.ones((3, 5)), jnp.ones((5, 7))
    assert count_flops(lambda a, b: a @ b, a, b) == 2 * 3 * 5 * 7

    def loop(a, w):
        return jax.lax.scan(lambda a, w: (a @ w, None), a, w)[0]

    assert count_flops(loop, a, jnp.ones((4, 5, 5))) == 4 * 2 * 3 * 5 * 5

    def convolve(x, k):
        return jax.lax.conv_general_dilated(x, k, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))

    x, k = jnp.ones((2, 8, 8, 3)), jnp.ones((3, 3, 3, 5))
    assert count_flops(convolve, x, k) == 2 * (3 * 3 * 3) * (2 * 8 * 8 * 5)
    forward = count_flops(loop, a, jnp.ones((4, 5, 5)))
    both = count_flops(jax.grad(lambda a, w: loop(a, w).sum(), argnums=(0, 1)), a, jnp.ones((4, 5, 5)))
    assert both == 3 * forward
