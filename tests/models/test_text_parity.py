"""The text encoder against transformers' UMT5 and T5 with random weights, live."""

import dataclasses

import pytest

pytest.importorskip("transformers")

from reference.make_text import build, record
from reference.text_stages import CONFIGS, relative_error, stages

from sora_jax.models.text import TEXT_UMT5_XXL
from sora_jax.weights.diffusers_text import text_leaves
from sora_jax.weights.layout import published_shapes

pytestmark = pytest.mark.parity


@pytest.mark.parametrize("lengths", [[1], [2, 5, 3], [33, 64], [150, 131, 7]], ids=str)
@pytest.mark.parametrize("kind", ["umt5", "t5"])
def test_stages_equal_reference(kind, lengths):
    pairs = stages(record(kind, CONFIGS[kind], lengths, seed=sum(lengths)), CONFIGS[kind])
    errors = {name: relative_error(*pair) for name, pair in pairs.items()}
    assert max(errors.values()) <= 1e-5, errors


def test_other_sizes_equal_reference():
    config = dataclasses.replace(
        CONFIGS["umt5"], width=40, heads=5, head_width=8, ffn_width=72, depth=2, buckets=16, max_distance=50
    )
    for name, pair in stages(record("umt5", config, [75, 4]), config).items():
        assert relative_error(*pair) <= 1e-5, name


def test_published_shapes_are_the_full_size_reference():
    import torch

    with torch.device("meta"):
        model = build("umt5", TEXT_UMT5_XXL)
    theirs = {name: tuple(x.shape) for name, x in model.named_parameters() if "embed_tokens" not in name}
    assert theirs == published_shapes(text_leaves(TEXT_UMT5_XXL))
    assert sum(x.numel() for x in model.parameters()) == 5_680_910_336
