import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import data_from_velocity, flow_loss, interpolate, noise_from_velocity, velocity

SHAPE = (2, 3, 4, 5, 6)


@pytest.fixture
def pair():
    return list(jnp.asarray(np.random.default_rng(0).normal(size=(2, *SHAPE)), jnp.float32))


@pytest.mark.parametrize("shape", [(), (2,), (2, 3), (2, 3, 1, 1), (2, 3, 4, 5)])
def test_data_and_noise_come_back_from_the_velocity(pair, shape):
    x0, eps = pair
    sigma = jnp.asarray(np.random.default_rng(1).uniform(size=shape), jnp.float32)
    x, v = interpolate(x0, eps, sigma), velocity(x0, eps)
    np.testing.assert_allclose(data_from_velocity(x, v, sigma), x0, atol=1e-6)
    np.testing.assert_allclose(noise_from_velocity(x, v, sigma), eps, atol=1e-6)


def test_velocity_is_the_derivative_along_sigma(pair):
    x0, eps = pair
    _, slope = jax.jvp(lambda s: interpolate(x0, eps, s), (jnp.float32(0.3),), (jnp.float32(1),))
    np.testing.assert_allclose(slope, velocity(x0, eps), atol=1e-6)


def test_both_ends_are_exact(pair):
    x0, eps = pair
    np.testing.assert_array_equal(interpolate(x0, eps, jnp.zeros(2)), x0)
    np.testing.assert_array_equal(interpolate(x0, eps, jnp.ones(2)), eps)


def test_levels_with_too_many_axes_are_refused(pair):
    with pytest.raises(ValueError, match="more axes"):
        interpolate(*pair, jnp.zeros((1,) * 6))


def test_loss_is_the_mean_over_unknown_tokens_and_never_sees_the_rest(pair):
    x0, eps = pair
    unknown = jnp.asarray(np.random.default_rng(2).uniform(size=SHAPE[:4]) < 0.4)
    v = velocity(x0, eps) + 2.0
    # What the model says of known tokens may be anything.
    v = jnp.where(unknown[..., None], v, jnp.nan)
    assert flow_loss(v, x0, eps, unknown) == pytest.approx(4.0, rel=1e-5)
    grad = jax.grad(lambda v: flow_loss(v, x0, eps, unknown))(v)
    assert bool((grad[~unknown] == 0).all())
    assert bool((grad[unknown] != 0).all())


@pytest.mark.parametrize("shape", [(2,), (2, 3), (2, 3, 1, 1)])
def test_loss_takes_masks_per_clip_and_per_frame(pair, shape):
    x0, eps = pair
    unknown = jnp.arange(np.prod(shape)).reshape(shape) % 2 == 0
    error = jnp.arange(np.prod(SHAPE), dtype=jnp.float32).reshape(SHAPE) / 100
    mask = np.broadcast_to(np.asarray(unknown).reshape(shape + (1,) * (5 - len(shape))), SHAPE)
    expected = np.square(np.asarray(error))[mask].mean()
    assert flow_loss(velocity(x0, eps) + error, x0, eps, unknown) == pytest.approx(expected, rel=1e-4)


def test_loss_weights_tokens(pair):
    x0, eps = pair
    error = jnp.where(jnp.arange(3) == 0, 1.0, 3.0).reshape(1, 3, 1, 1, 1)
    weight = jnp.broadcast_to(jnp.array([2.0, 1.0, 0.0]), (2, 3))
    loss = flow_loss(velocity(x0, eps) + error, x0, eps, jnp.ones(SHAPE[:4], bool), weight)
    assert loss == pytest.approx((2 * 1 + 1 * 9) / 3, rel=1e-5)


def test_loss_of_nothing_unknown_is_zero(pair):
    assert flow_loss(*pair, pair[0], jnp.zeros(SHAPE[:4], bool)) == 0


def test_loss_is_float32_from_bfloat16(pair):
    x0, eps = pair
    v = velocity(x0, eps).astype(jnp.bfloat16)
    loss = flow_loss(v, x0, eps, jnp.ones(SHAPE[:4], bool))
    assert loss.dtype == jnp.float32
    assert 0 < loss < 1e-4
