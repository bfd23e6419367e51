from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from reference.text_stages import CONFIGS, relative_error, stages
from safetensors.numpy import load_file

from sora_jax.models.text import (
    TEXT_PLAYGROUND,
    TEXT_UMT5_XXL,
    TextConfig,
    TextEncoder,
    distance_buckets,
)

REFERENCE = Path(__file__).parent / "reference"


@pytest.mark.parametrize("kind", ["umt5", "t5"])
def test_stages_equal_stored_reference(kind):
    pairs = stages(load_file(REFERENCE / f"text_{kind}.safetensors"), CONFIGS[kind])
    assert set(pairs) == {"output", "attention", "ffn", "norm", "bias", "buckets"}
    errors = {name: relative_error(*pair) for name, pair in pairs.items()}
    assert max(errors.values()) <= 1e-5, errors


@pytest.fixture(scope="module")
def playground():
    encoder = TextEncoder(TEXT_PLAYGROUND)
    ids = jax.random.randint(jax.random.key(1), (2, 9), 0, TEXT_PLAYGROUND.vocab)
    mask = jnp.arange(9)[None] < jnp.array([[9], [4]])
    variables = nn.unbox(jax.jit(encoder.init)(jax.random.key(0), ids, mask))
    return jax.jit(encoder.apply), variables, ids, mask


def test_padding_is_not_seen_and_comes_out_as_zero(playground):
    apply, variables, ids, mask = playground
    whole = apply(variables, ids, mask)
    other = apply(variables, jnp.where(mask, ids, 3), mask)
    np.testing.assert_array_equal(whole, other)
    assert not np.asarray(whole[1, 4:]).any()
    np.testing.assert_allclose(whole[1:, :4], apply(variables, ids[1:, :4], mask[1:, :4]), atol=2e-6)


def test_order_of_words_matters(playground):
    apply, variables, ids, mask = playground
    there = apply(variables, ids[:1], mask[:1])
    back = apply(variables, ids[:1, ::-1], mask[:1])[:, ::-1]
    assert float(jnp.abs(there - back).max()) > 0.05


def test_initial_features_are_of_unit_size_and_tell_prompts_apart(playground):
    apply, variables, ids, _ = playground
    features = apply(variables, ids, jnp.ones_like(ids, bool))
    assert 0.8 < float(features.std()) < 1.2
    assert float(jnp.abs(features[0] - features[1]).mean()) > 0.5
    # Layers add to embeddings of unit size, which the last norm alone would hide.
    assert 0.9 < float(variables["params"]["embedding"].std()) < 1.1


def test_every_parameter_is_trained(playground):
    apply, variables, ids, mask = playground
    weights = jax.random.normal(jax.random.key(2), (2, 9, TEXT_PLAYGROUND.width))
    gradients = jax.jit(jax.grad(lambda v: jnp.sum(weights * apply(v, ids, mask))))(variables)
    for path, gradient in jax.tree_util.tree_leaves_with_path(gradients):
        assert float(jnp.abs(gradient).max()) > 0, path


def test_compute_in_bfloat16_keeps_parameters_in_float32(playground):
    apply, variables, ids, mask = playground
    encoder = TextEncoder(TEXT_PLAYGROUND, jnp.bfloat16)
    half = jax.jit(encoder.apply)(variables, ids, mask)
    assert half.dtype == jnp.bfloat16
    initial = jax.eval_shape(encoder.init, jax.random.key(0), ids, mask)
    assert {leaf.dtype for leaf in jax.tree.leaves(initial)} == {jnp.dtype("float32")}
    assert relative_error(np.asarray(half, np.float32), np.asarray(apply(variables, ids, mask))) < 0.1


def test_distances_count_single_steps_then_by_logarithm():
    table = distance_buckets(300, 32, 128)
    assert table[0, :9].tolist() == [0, 17, 18, 19, 20, 21, 22, 23, 24]  # to the right: 16 and on
    assert table[8, :9].tolist() == [8, 7, 6, 5, 4, 3, 2, 1, 0]
    assert [table[0, n] for n in (15, 16, 127, 128, 299)] == [25, 26, 31, 31, 31]
    assert (np.diff(table[0, 1:]) >= 0).all()


def test_full_size_has_the_published_parameters():
    ids, mask = jax.ShapeDtypeStruct((2, 512), jnp.int32), jax.ShapeDtypeStruct((2, 512), jnp.bool_)
    encoder = TextEncoder(TEXT_UMT5_XXL, jnp.bfloat16)
    out, variables = jax.eval_shape(encoder.init_with_output, jax.random.key(0), ids, mask)
    assert out.shape == (2, 512, 4096)
    assert sum(leaf.size for leaf in jax.tree.leaves(variables)) == 5_680_910_336


def test_parameters_name_their_logical_axes():
    ids, mask = jnp.zeros((1, 2), jnp.int32), jnp.ones((1, 2), bool)
    variables = jax.eval_shape(TextEncoder(TEXT_PLAYGROUND).init, jax.random.key(0), ids, mask)
    specs = nn.get_partition_spec(variables)["params"]
    assert tuple(specs["embedding"]) == ("vocab", "embed")
    assert tuple(specs["blocks"]["attention"]["q"]["kernel"]) == ("layers", "embed", "heads")
    assert tuple(specs["blocks"]["ffn"]["down"]["kernel"]) == ("layers", "mlp", "embed")


@pytest.mark.parametrize("wrong", [{"depth": 0}, {"buckets": 6}, {"max_distance": 8}, {"vocab": -1}], ids=str)
def test_impossible_sizes_are_refused(wrong):
    sizes = {"vocab": 8, "width": 8, "depth": 1, "heads": 2, "head_width": 4, "ffn_width": 8} | wrong
    with pytest.raises(ValueError, match=next(iter(wrong))):
        TextConfig(**sizes)
