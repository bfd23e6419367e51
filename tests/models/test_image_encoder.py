"""The image encoder: what goes in, and its sizes beside transformers' CLIP."""

import dataclasses

import jax
import numpy as np
import pytest
from PIL import Image

from sora_jax.models.config import MODELS
from sora_jax.models.image import IMAGE_VIT_H, MEAN, STD, ImageConfig, ImageEncoder, prepare
from sora_jax.weights.diffusers_image import from_diffusers_image, image_leaves, to_diffusers_image
from sora_jax.weights.layout import published_shapes
from sora_jax.weights.shapes import parameter_shapes

CONFIG = ImageConfig(width=24, depth=3, heads=2, ffn_width=40, patch=4, size=12)


def gradient(height, width):
    """A picture that is smooth, so that scaling keeps it, and different at every pixel."""
    rows, columns = np.mgrid[0:height, 0:width]
    parts = (rows / height, columns / width, (rows + columns) / (height + width))
    return (np.stack(parts, axis=-1) * 255).astype(np.uint8)


def test_the_middle_square_is_scaled_and_normalised():
    image = np.zeros((24, 60, 3), np.uint8)
    image[:, 18:42] = 255
    seen = prepare(image, CONFIG)
    assert seen.shape == (12, 12, 3)
    assert seen.dtype == np.float32
    white = (1 - np.array(MEAN)) / np.array(STD)
    np.testing.assert_allclose(seen[:, 2:-2], np.broadcast_to(white, (12, 8, 3)), atol=0.1)
    # Beside it lay black, which a wider part would show.
    assert seen.min() > 1


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"heads": 5}, "width is 24 and must be a multiple of its heads, 5"),
        ({"size": 13}, "size is 13 and must be a multiple of its patch"),
        ({"depth": 0}, "depth is 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(changes, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(CONFIG, **changes)


def test_published_sizes():
    assert IMAGE_VIT_H.tokens == 257
    assert sum(int(np.prod(shape)) for shape in parameter_shapes(IMAGE_VIT_H).values()) == 630_766_080
    assert MODELS["wan2_1_i2v_14b_720p"].image == IMAGE_VIT_H


def torch_model(config):
    transformers = pytest.importorskip("transformers")
    return transformers.CLIPVisionModel(
        transformers.CLIPVisionConfig(
            hidden_size=config.width,
            intermediate_size=config.ffn_width,
            num_hidden_layers=config.depth,
            num_attention_heads=config.heads,
            image_size=config.size,
            patch_size=config.patch,
            hidden_act="gelu",
        )
    ).eval()


@pytest.mark.parity
def test_tokens_are_the_reference_s():
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    model = torch_model(CONFIG)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape) * 0.3)
    state = {name: value.numpy() for name, value in model.state_dict().items()}
    params = from_diffusers_image(state, CONFIG)
    back = to_diffusers_image(params, CONFIG)
    assert {name.removeprefix("vision_model.") for name in back} == {
        name.removeprefix("vision_model.") for name in state
    }
    pixels = np.random.RandomState(0).standard_normal((2, 12, 12, 3)).astype(np.float32)
    tokens, whole = jax.jit(ImageEncoder(CONFIG).apply)({"params": params}, pixels)
    with torch.no_grad():
        theirs = model(torch.tensor(pixels.transpose(0, 3, 1, 2)), output_hidden_states=True)
    np.testing.assert_allclose(tokens, theirs.hidden_states[-2].numpy(), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(whole, theirs.pooler_output.numpy(), rtol=1e-4, atol=1e-4)


@pytest.mark.parity
def test_every_published_tensor_has_its_place():
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        model = torch_model(IMAGE_VIT_H)
    theirs = {name.removeprefix("vision_model."): tuple(x.shape) for name, x in model.named_parameters()}
    ours = published_shapes(image_leaves(IMAGE_VIT_H))
    assert {name.removeprefix("vision_model."): shape for name, shape in ours.items()} == theirs


@pytest.mark.parity
@pytest.mark.parametrize("sides", [(30, 47), (50, 33), (9, 7), (12, 12)])
def test_the_preparation_is_the_reference_s(sides):
    clip = pytest.importorskip("transformers.models.clip.image_processing_pil_clip")
    processor = clip.CLIPImageProcessorPil(size={"shortest_edge": 12}, crop_size={"height": 12, "width": 12})
    image = gradient(*sides)
    theirs = np.asarray(processor(images=Image.fromarray(image))["pixel_values"][0]).transpose(1, 2, 0)
    np.testing.assert_allclose(prepare(image, CONFIG), theirs, atol=1e-5)
