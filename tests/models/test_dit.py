import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from sora_jax.models.dit import (
    DIT_PLAYGROUND,
    DIT_WAN2_1_T2V_1_3B,
    DIT_WAN2_1_T2V_14B,
    DIT_WAN2_2_TI2V_5B,
    REMAT,
    Block,
    DiT,
    DiTConfig,
)
from sora_jax.models.remat import NAMES
from sora_jax.nn.conv import Neighbours
from sora_jax.ops.rope import rope_3d

TINY = DiTConfig(
    in_channels=3,
    out_channels=4,
    patch=(1, 2, 2),
    width=24,
    depth=2,
    heads=2,
    ffn_width=32,
    text_width=10,
    freq_width=16,
    init="published",
)
B, T, H, W, S = 2, 3, 4, 6, 5
N = T * (H // 2) * (W // 2)
# These networks compile for longer than they run.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


@pytest.fixture(scope="module")
def x():
    return jax.random.normal(jax.random.key(1), (B, T, H, W, TINY.in_channels))


@pytest.fixture(scope="module")
def text():
    return jax.random.normal(jax.random.key(2), (B, S, TINY.text_width))


@pytest.fixture(scope="module")
def params(x, text):
    return nn.unbox(compiled(DiT(TINY).init)(jax.random.key(0), x, jnp.zeros((B,)), text))["params"]


@compiled
def velocity(params, x, timestep, text, text_mask=None, positions=None):
    return DiT(TINY).apply({"params": params}, x, timestep, text, text_mask, positions)


def shapes(config):
    x = jax.ShapeDtypeStruct(
        (1, 2, 2 * config.patch[1], 4 * config.patch[2], config.in_channels), jnp.float32
    )
    t = jax.ShapeDtypeStruct((1,), jnp.float32)
    text = jax.ShapeDtypeStruct((1, 7, config.text_width), jnp.float32)
    return jax.eval_shape(lambda *a: DiT(config).init_with_output(*a), jax.random.key(0), x, t, text)


def parameters(c):
    """The count by hand: linear layers with biases, norms and tables."""
    d, voxels = c.width, int(np.prod(c.patch))
    attention = 4 * (d * d + d) + 2 * d
    ffn = d * c.ffn_width + c.ffn_width + c.ffn_width * d + d
    block = 2 * attention + 2 * d + ffn + 6 * d + 9 * d * c.neighbours
    time = (c.freq_width * d + d) + (d * d + d) + (6 * d * d + 6 * d)
    text = (c.text_width * d + d) + (d * d + d)
    ends = voxels * c.in_channels * d + d + d * voxels * c.out_channels + voxels * c.out_channels + 2 * d
    return c.depth * block + time + text + ends


# The counts of diffusers' WanTransformer3DModel built with the config.json beside each published checkpoint
# (Wan-AI/Wan2.1-T2V-1.3B, Wan2.1-T2V-14B and Wan2.2-TI2V-5B, -Diffusers); a parity test builds them.
PUBLISHED = [
    (DIT_WAN2_1_T2V_1_3B, 1_418_996_800),
    (DIT_WAN2_1_T2V_14B, 14_288_491_584),
    (DIT_WAN2_2_TI2V_5B, 4_999_787_712),
]


@pytest.mark.parametrize(("config", "count"), [*PUBLISHED, (DIT_PLAYGROUND, parameters(DIT_PLAYGROUND))])
def test_full_sizes_have_the_published_counts(config, count):
    v, variables = shapes(config)
    assert v.shape[-1] == config.out_channels
    assert sum(a.size for a in jax.tree.leaves(variables)) == count == parameters(config)


def test_every_parameter_names_its_axes():
    _, variables = shapes(DIT_PLAYGROUND)
    boxes = jax.tree.leaves(variables, is_leaf=lambda a: isinstance(a, nn.LogicallyPartitioned))
    assert all(isinstance(a, nn.LogicallyPartitioned) and len(a.names) == len(a.value.shape) for a in boxes)
    query = variables["params"]["blocks"]["self_attention"]["query"]["kernel"]
    assert query.names == ("layers", "embed", "heads")


def test_one_level_for_the_clip_is_that_level_for_each_frame_and_token(params, x, text):
    t = jnp.array([3.0, 800.0])
    v = velocity(params, x, t, text)
    assert v.shape == (B, T, H, W, TINY.out_channels)
    for levels in (T, N):
        same = velocity(params, x, jnp.broadcast_to(t[:, None], (B, levels)), text)
        np.testing.assert_allclose(same, v, atol=2e-5)


def test_frame_levels_are_token_levels_in_order_of_time(params, x, text):
    t = jax.random.uniform(jax.random.key(3), (B, T)) * 1000.0
    tokens = jnp.repeat(t, N // T, axis=1)
    np.testing.assert_allclose(velocity(params, x, t, text), velocity(params, x, tokens, text), atol=2e-5)
    other = velocity(params, x, t[:, ::-1], text)
    assert float(jnp.abs(other - velocity(params, x, t, text)).max()) > 1e-3


def test_masked_text_has_no_influence(params, x, text):
    t, mask = jnp.array([100.0, 900.0]), jnp.arange(S)[None, :] < jnp.array([[2], [4]])
    v = velocity(params, x, t, text, mask)
    noisy = jnp.where(mask[:, :, None], text, 50.0)
    np.testing.assert_array_equal(velocity(params, x, t, noisy, mask), v)
    assert float(jnp.abs(velocity(params, x, t, text + 1.0, mask) - v).max()) > 1e-3
    cut = velocity(params, x[:1], t[:1], text[:1, :2])
    np.testing.assert_allclose(v[:1], cut, atol=2e-5)


def test_positions_default_to_the_frame_s_number_and_only_differences_count(params, x, text):
    t = jnp.array([100.0, 900.0])
    v = velocity(params, x, t, text)
    shifted = velocity(params, x, t, text, None, jnp.arange(float(T)) + 7.0)
    np.testing.assert_allclose(shifted, v, atol=5e-5)
    stretched = velocity(params, x, t, text, None, jnp.arange(float(T)) * 2.5)
    assert float(jnp.abs(stretched - v).max()) > 1e-4


def test_a_new_network_is_the_identity_inside_and_says_zero(x, text):
    config = dataclasses.replace(TINY, init="zero")
    t = jnp.array([3.0, 800.0])
    v, variables = compiled(DiT(config).init_with_output)(jax.random.key(0), x, t, text)
    assert not v.any()
    block = jax.tree.map(lambda a: a[0], nn.unbox(variables)["params"]["blocks"])
    tokens = jax.random.normal(jax.random.key(4), (B, N, config.width))
    level, context = jnp.zeros((B, 1, 6, config.width)), jnp.ones((B, S, config.width))
    grid = (T, H // 2, W // 2)
    rotation = rope_3d(grid, config.head_width)
    y, _ = compiled(Block(config, grid).apply)({"params": block}, tokens, level, context, rotation)
    np.testing.assert_array_equal(y, tokens)


@pytest.mark.parametrize("levels", [1, T, N])
def test_a_preconditioned_network_says_the_best_linear_guess_before_it_learned(x, text, levels):
    config = dataclasses.replace(
        TINY, prediction="preconditioned", out_channels=TINY.in_channels, init="zero"
    )
    variables = compiled(DiT(config).init)(jax.random.key(0), x, jnp.zeros((B,)), text)
    timestep = jax.random.uniform(jax.random.key(3), (B, levels), minval=20.0, maxval=1000.0)
    v = compiled(DiT(config).apply)(variables, x, timestep, text)
    # The linear fit of v = ε - x₀ on x_σ = (1 - σ) x₀ + σ ε, both of variance 1: cov(v, x_σ) / var(x_σ).
    sigma = np.asarray(timestep) / 1000
    sigma = sigma.reshape(B, *((T, H // 2, W // 2) if levels == N else (levels, 1, 1)), 1)
    if levels == N:
        sigma = sigma.repeat(2, axis=2).repeat(2, axis=3)
    guess = (sigma - (1 - sigma)) / (sigma**2 + (1 - sigma) ** 2)
    np.testing.assert_allclose(v, guess * x, rtol=1e-4, atol=1e-6)


def test_a_token_s_neighbours_are_those_of_its_frame():
    grid, row, column = (2, 3, 4), 1, 2
    tokens = jnp.zeros((1, *grid, 1)).at[0, 1, row, column].set(1.0).reshape(1, -1, 1)
    taps = jnp.arange(9.0).reshape(3, 3, 1)
    seen = np.asarray(Neighbours(grid).apply({"params": {"taps": taps}}, tokens)).reshape(grid)
    # A tap reads the token on its own side, so each neighbour sees this one through the opposite tap.
    np.testing.assert_array_equal(seen[1, row - 1 : row + 2, column - 1 : column + 2], taps[::-1, ::-1, 0])
    assert np.count_nonzero(seen) == 8


def test_neighbours_change_nothing_before_they_learned_and_then_do(params, x, text):
    config = dataclasses.replace(TINY, neighbours=True)
    variables = nn.unbox(compiled(DiT(config).init)(jax.random.key(0), x, jnp.zeros((B,)), text))["params"]
    assert "neighbours" not in params["blocks"]
    taps = variables["blocks"]["neighbours"]["taps"]
    timestep = jnp.array([3.0, 800.0])

    def apply(taps):
        merged = {**params, "blocks": {**params["blocks"], "neighbours": {"taps": taps}}}
        return DiT(config).apply({"params": merged}, x, timestep, text)

    plain = velocity(params, x, timestep, text)
    np.testing.assert_allclose(compiled(apply)(taps), plain, rtol=1e-5, atol=1e-6)
    assert float(jnp.max(jnp.abs(compiled(apply)(taps + 0.3) - plain))) > 1e-3


def gradients(config, params, x, text):
    def loss(p):
        return jnp.mean(jnp.square(DiT(config).apply({"params": p}, x, jnp.array([3.0, 800.0]), text) - 1.0))

    return compiled(jax.grad(loss))(params)


def test_every_gradient_is_finite_and_the_same_under_every_remat_policy(params, x, text):
    plain = gradients(TINY, params, x, text)
    for path, g in jax.tree_util.tree_leaves_with_path(plain):
        assert bool(jnp.isfinite(g).all()), path
        assert bool(jnp.abs(g).max() > 0), path
    for change in ({"remat": "full"}, {"remat": "minimal", "unroll": 2}, {"remat": "offload"}):
        other = gradients(dataclasses.replace(TINY, **change), params, x, text)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), other, plain)


def test_every_policy_has_a_name_and_every_name_a_policy():
    assert {*NAMES} == {"none", *REMAT}


def test_bfloat16_stays_near_float32_and_keeps_float32_parameters(params, x, text):
    model = DiT(TINY, jnp.bfloat16)
    t = jnp.array([100.0, 900.0])
    v = compiled(lambda p: model.apply({"params": p}, x, t, text))(params)
    assert v.dtype == jnp.bfloat16
    full = velocity(params, x, t, text)
    error = jnp.linalg.norm(v.astype(jnp.float32) - full) / jnp.linalg.norm(full)
    assert float(error) < 0.05
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depth": 0}, "depth is 0: it must be at least 1"),
        ({"heads": 5}, "width 24 in 5 heads"),
        ({"patch": (1, 0, 2)}, "give three positive sizes"),
        ({"freq_width": 15}, "freq_width is 15"),
        ({"remat": "some"}, "choose one of none, minimal, .* full"),
        ({"init": "ones"}, "choose zero or published"),
    ],
)
def test_impossible_sizes_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(TINY, **change)


def test_inputs_that_do_not_fit_are_refused(params, x, text):
    t = jnp.zeros((B,))
    with pytest.raises(ValueError, match="timesteps for a grid of"):
        velocity(params, x, jnp.zeros((B, 4)), text)
    with pytest.raises(ValueError, match="latent columns is not a multiple"):
        velocity(params, x[:, :, :, :5], t, text)
    with pytest.raises(ValueError, match="this network takes 3 and 10"):
        velocity(params, x, t, text[..., :9])
    with pytest.raises(ValueError, match="2 positions for 3 token frames"):
        velocity(params, x, t, text, None, jnp.zeros((2,)))


def test_image_tokens_are_asked_for_and_no_others_taken(x, text):
    def shape(config, *image):
        inputs = (x, jnp.zeros((B,)), text, None, None, *image)
        return jax.eval_shape(DiT(config).init, jax.random.key(0), *inputs)

    tokens = jnp.zeros((B, 6, 8))
    takes = dataclasses.replace(TINY, image_width=8)
    with pytest.raises(ValueError, match="image tokens are missing: this network takes those of width 8"):
        shape(takes)
    with pytest.raises(ValueError, match="image tokens are 8 wide: this network takes none"):
        shape(TINY, tokens)
    with pytest.raises(ValueError, match="6 image tokens: this network takes 4, those of a first and a last"):
        shape(dataclasses.replace(takes, image_positions=4), tokens)
    names = {jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shape(TINY))}
    assert not any("image" in name or "added" in name for name in names)
    more = {
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(shape(takes, tokens))
    }
    assert names < more
