import numpy as np
import pytest

from sora_jax.models.text import TextConfig
from sora_jax.weights.diffusers_text import from_diffusers_text, text_leaves
from sora_jax.weights.layout import published_shapes

CONFIG = TextConfig(vocab=11, width=6, depth=2, heads=2, head_width=4, ffn_width=10)


@pytest.fixture
def state():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(shape) for name, shape in published_shapes(text_leaves(CONFIG)).items()}


def test_either_name_of_the_embedding_serves_and_a_decoder_is_left_out(state):
    plain = from_diffusers_text(state, CONFIG)
    renamed = dict(state, **{"decoder.x": np.zeros(3), "lm_head.weight": np.zeros(3)})
    renamed["encoder.embed_tokens.weight"] = renamed.pop("shared.weight")
    np.testing.assert_array_equal(from_diffusers_text(renamed, CONFIG)["embedding"], plain["embedding"])


def test_layers_are_stacked_and_kernels_turned(state):
    kernel = from_diffusers_text(state, CONFIG)["blocks"]["ffn"]["gate"]["kernel"]
    assert kernel.shape == (2, 6, 10)
    np.testing.assert_array_equal(kernel[1], state["encoder.block.1.layer.1.DenseReluDense.wi_0.weight"].T)


def test_what_does_not_fit_is_named(state):
    state["encoder.block.1.layer.0.SelfAttention.q.weight"] = np.zeros((6, 8))
    state["encoder.other"] = state.pop("encoder.final_layer_norm.weight")
    with pytest.raises(
        ValueError, match=r"lacks encoder.final_layer_norm.weight; .*unknown encoder.other; .*\[6, 8\]"
    ):
        from_diffusers_text(state, CONFIG)
