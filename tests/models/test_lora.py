"""What adding A·B means, on the real paths of the denoiser."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from flax import linen as nn
from flax.traverse_util import flatten_dict

from sora_jax.models.dit import DiT
from sora_jax.models.lora import LoRAConfig, apply_lora, init_lora, merge

CONFIG = LoRAConfig(rank=3, alpha=6.0)


@pytest.fixture(scope="module")
def params():
    return tiny_model.checkpoint().params["dit"]


def random(lora, seed=0):
    rng = np.random.default_rng(seed)
    return jax.tree.map(lambda a: rng.standard_normal(a.shape, np.float32), lora)


def flat(tree):
    return dict(flatten_dict(tree, sep="/"))


def test_a_fresh_adapter_changes_no_bit(params):
    lora = init_lora(params, CONFIG, jax.random.key(0))
    jax.tree.map(np.testing.assert_array_equal, apply_lora(params, lora, CONFIG.scale), params)
    assert len(lora) == 8
    assert all(np.abs(f["a"]).max() > 0 for f in lora.values())


def test_only_the_targets_change_by_a_product_of_the_rank(params):
    lora = random(init_lora(params, CONFIG, jax.random.key(0)))
    before, after = flat(params), flat(apply_lora(params, lora, CONFIG.scale))
    assert after.keys() == before.keys()
    for path, kernel in before.items():
        if path not in lora:
            assert after[path] is kernel
            continue
        for block in range(kernel.shape[0]):
            change = np.asarray(after[path][block], np.float64) - kernel[block]
            a, b = (lora[path][name][block].astype(np.float64) for name in "ab")
            np.testing.assert_allclose(change, 2.0 * a @ b, atol=1e-4)
            values = np.linalg.svd(change, compute_uv=False)
            assert values[2] > 1e-3
            assert values[3] < 1e-4


def test_a_stack_is_adapted_block_by_block(params):
    lora = random(init_lora(params, CONFIG, jax.random.key(0)))
    whole = flat(apply_lora(params, lora, 0.7))
    for block in range(2):
        one = jax.tree.map(lambda x, i=block: x[i], {"blocks": params["blocks"]})
        part = flat(apply_lora(one, jax.tree.map(lambda x, i=block: x[i], lora), 0.7))
        for path in lora:
            np.testing.assert_allclose(whole[path][block], part[path], rtol=1e-6, atol=1e-6)


def test_the_change_is_linear_in_the_weights_of_several(params):
    first, second = (random(init_lora(params, CONFIG, jax.random.key(0)), seed) for seed in (1, 2))
    base = flat(params)
    both = flat(merge(params, [(first, 0.25), (second, -1.5)]))
    alone = [flat(apply_lora(params, lora)) for lora in (first, second)]
    for path in first:
        expected = 0.25 * (alone[0][path] - base[path]) - 1.5 * (alone[1][path] - base[path])
        np.testing.assert_allclose(both[path] - base[path], expected, atol=1e-4)


def test_several_are_summed_before_the_cast(params):
    half = jax.tree.map(lambda x: jnp.asarray(x, jnp.bfloat16), params)
    lora = random(init_lora(params, CONFIG, jax.random.key(0)))
    out = merge(half, [(lora, 1.0), (lora, -1.0)])
    jax.tree.map(np.testing.assert_array_equal, out, half)


def test_gradients_reach_the_factors_alone(params):
    lora = init_lora(params, CONFIG, jax.random.key(0))
    path = min(lora)

    def loss(lora):
        return jnp.sum(jnp.square(flat(apply_lora(params, lora, CONFIG.scale))[path]))

    grads = jax.grad(loss)(lora)
    assert jax.tree.structure(grads) == jax.tree.structure(lora)
    expected = 2.0 * CONFIG.scale * np.swapaxes(lora[path]["a"], 1, 2) @ flat(params)[path] * 1.0
    np.testing.assert_allclose(grads[path]["b"], expected, rtol=1e-4, atol=1e-5)
    assert not np.any(grads[path]["a"])  # B is zero


def test_factors_keep_the_names_of_the_kernel_s_axes():
    config = tiny_model.CONFIG.dit
    inputs = (jnp.zeros((1, *config.patch, config.in_channels)), jnp.zeros((1,)), jnp.zeros((1, 1, 8)))
    boxed = jax.eval_shape(DiT(config).init, jax.random.key(0), *inputs)["params"]
    lora = jax.eval_shape(lambda: init_lora(boxed, CONFIG, jax.random.key(0)))
    specs = nn.get_partition_spec(lora)["blocks/self_attention/query/kernel"]
    assert tuple(specs["a"]) == ("layers", "embed", None)
    assert tuple(specs["b"]) == ("layers", None, "heads")


def test_a_kernel_s_first_draw_is_its_own(params):
    few = dataclasses.replace(CONFIG, targets="blocks/self_attention/query/kernel")
    path = few.targets
    alone, among = (init_lora(params, config, jax.random.key(3)) for config in (few, CONFIG))
    np.testing.assert_array_equal(alone[path]["a"], among[path]["a"])
    assert np.abs(among[path]["a"] - among[path.replace("query", "key")]["a"]).max() > 0.01


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rank": 0}, "rank is 0"),
        ({"alpha": 0.0}, "alpha is 0"),
        ({"alpha": float("nan")}, "alpha is nan"),
        ({"targets": "("}, "no regular expression"),
    ],
)
def test_a_config_that_can_t_be_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        LoRAConfig(**wrong)


def test_what_fits_no_kernel_is_refused(params):
    with pytest.raises(ValueError, match="matches no kernel"):
        init_lora(params, LoRAConfig(targets="blocks/attn1/.*"), jax.random.key(0))
    with pytest.raises(ValueError, match="rank 16 isn't below"):
        init_lora(params, LoRAConfig(rank=16), jax.random.key(0))
    other = {"blocks/ghost/kernel": {"a": np.zeros((2, 16, 3)), "b": np.zeros((2, 3, 16))}}
    with pytest.raises(ValueError, match=re.escape("changes blocks/ghost/kernel [2, 16, 16]")):
        apply_lora(params, other)
