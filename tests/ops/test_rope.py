import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.ops.rope import apply_rope, axis_widths, frequencies, rope_3d

GRID, WIDTH = (3, 4, 5), 20


def turn(x, grid=GRID, positions=None):
    """The same head entries x [e] at every place of the grid -> [t, h, w, e]."""
    n = int(np.prod(grid))
    heads = jnp.broadcast_to(x.reshape(1, 1, 1, -1), (1, n, 1, x.shape[0]))
    return apply_rope(heads, rope_3d(grid, x.shape[0], positions)).reshape(*grid, x.shape[0])


def test_products_depend_on_differences_of_position_alone():
    q, k = jax.random.normal(jax.random.key(0), (2, WIDTH))
    q, k = np.asarray(turn(q), np.float64), np.asarray(turn(k), np.float64)
    for step in [(1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 2, 3)]:
        t, h, w = step
        a = (q[t:, h:, w:] * k[: GRID[0] - t, : GRID[1] - h, : GRID[2] - w]).sum(-1)
        np.testing.assert_allclose(a, np.full_like(a, a.flat[0]), atol=2e-5)
        assert abs(a.flat[0] - (q[0, 0, 0] * k[0, 0, 0]).sum()) > 1e-3


def test_a_rotation_keeps_lengths_and_leaves_the_origin():
    x = jax.random.normal(jax.random.key(1), (WIDTH,))
    y = np.asarray(turn(x))
    np.testing.assert_allclose(np.linalg.norm(y, axis=-1), np.full(GRID, np.linalg.norm(x)), rtol=1e-6)
    np.testing.assert_array_equal(y[0, 0, 0], x)


def test_each_axis_turns_its_own_share_at_its_own_rates():
    assert axis_widths(128) == (44, 42, 42)
    cos, sin = (np.asarray(a).reshape(*GRID, WIDTH // 2) for a in rope_3d(GRID, WIDTH))
    t, h, w = axis_widths(WIDTH)
    assert (t, h, w) == (8, 6, 6)
    angles = [2 * frequencies(t), 3 * frequencies(h), 4 * frequencies(w)]
    np.testing.assert_allclose(cos[2, 3, 4], np.cos(np.concatenate(angles)), atol=1e-6)
    np.testing.assert_allclose(sin[2, 3, 4], np.sin(np.concatenate(angles)), atol=1e-6)


def test_given_positions_are_those_used():
    x = jax.random.normal(jax.random.key(2), (WIDTH,))
    np.testing.assert_allclose(turn(x, positions=jnp.arange(3.0)), turn(x), atol=1e-6)
    moved = turn(x, positions=jnp.array([2.0, 0.0, 0.5]))
    np.testing.assert_allclose(moved[:2], turn(x)[jnp.array([2, 0])], atol=1e-6)
    assert float(jnp.abs(moved[2] - turn(x)[1]).max()) > 0.1


def test_an_odd_head_is_refused():
    with pytest.raises(ValueError, match="make the head width even"):
        rope_3d(GRID, 7)
