"""A clip doesn't depend on how the model that makes it lies on devices: words to latents, latents to pixels."""

import jax
import numpy as np
import pytest
import tiny_model

import sora_jax as sora
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.studio.request import resolve

PROMPTS = ["a red circle moves right"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("mesh") / "tiny")


@pytest.fixture(scope="module")
def one_device(folder):
    return made(folder, None)


def made(folder, mesh):
    """Latents and pixels; the network's config is tiny_model's: 3 frames of 4 x 4 latents, so 48 tokens."""
    pipeline = sora.load(folder, mesh=mesh)
    latents = pipeline.sample(resolve(pipeline.config, PROMPTS, steps=2)).latents
    return pipeline, latents, pipeline.decode_batch(latents)


def assert_as_on_one_device(folder, axes, one_device):
    pipeline, latents, pixels = made(folder, make_mesh(MeshConfig(**axes)))
    np.testing.assert_allclose(latents, one_device[1], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(pixels, one_device[2], atol=1e-5)
    features = pipeline.encode_text(PROMPTS)
    np.testing.assert_allclose(features, one_device[0].encode_text(PROMPTS), rtol=1e-5, atol=1e-5)
    return pipeline


def test_a_generation_equals_one_device_s(folder, one_device):
    pipeline = assert_as_on_one_device(folder, {"data": 1, "fsdp": 2, "context": 2, "tensor": 2}, one_device)
    text = pipeline.params["text"]["blocks"]["ffn"]["gate"]["kernel"]
    assert text.addressable_shards[0].data.size == text.size // 8
    assert all(len(leaf.sharding.device_set) == 8 for leaf in jax.tree.leaves(pipeline.params))


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes",
    [
        {"data": 8},
        {"data": 1, "fsdp": 8},
        {"data": 1, "context": 8},
        {"data": 1, "fsdp": 4, "tensor": 2},
        {"data": 2, "context": 4},
        {"data": 1, "context": 4, "tensor": 2},
        {"data": 2, "context": 2, "tensor": 2},
    ],
    ids=str,
)
def test_a_generation_equals_one_device_s_on_every_mesh(axes, folder, one_device):
    assert_as_on_one_device(folder, axes, one_device)
