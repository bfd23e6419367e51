"""Small networks and inputs for the comparison of the DiT with its reference: the same numbers on any machine."""

import jax.numpy as jnp
import numpy as np

from sora_jax.models.dit import DiTConfig
from sora_jax.weights.diffusers_dit import dit_leaves
from sora_jax.weights.layout import published_shapes

SMALL = {"in_channels": 5, "out_channels": 7, "depth": 2, "ffn_width": 56, "text_width": 20, "freq_width": 32}
CONFIGS = {
    "patch_1x2x2": DiTConfig(patch=(1, 2, 2), width=48, heads=2, **SMALL),
    "patch_1x1x1": DiTConfig(patch=(1, 1, 1), width=64, heads=4, **SMALL),
    "image_tokens": DiTConfig(patch=(1, 2, 2), width=48, heads=2, image_width=10, **SMALL),
    "two_images": DiTConfig(patch=(1, 2, 2), width=48, heads=2, image_width=10, image_positions=6, **SMALL),
}
# name -> (config, shape of the latents, timesteps a clip: one, or one a token)
CASES = {
    "odd_frames": ("patch_1x2x2", (2, 3, 6, 4), 1),
    "image": ("patch_1x2x2", (1, 1, 2, 8), 1),
    "token_levels": ("patch_1x2x2", (2, 5, 4, 6), 30),
    "pixels": ("patch_1x1x1", (2, 4, 3, 5), 1),
    "pixels_token_levels": ("patch_1x1x1", (1, 2, 5, 3), 30),
    "image_tokens": ("image_tokens", (2, 2, 4, 6), 1),
    "two_images": ("two_images", (1, 2, 2, 4), 1),
}
TEXT_LENGTH = 9
# The reference takes the last 512 tokens for the text where there are image tokens.
TEXT_LENGTH_WITH_IMAGE = 512
IMAGE_TOKENS = 6


def state_dict(name: str) -> dict[str, np.ndarray]:
    """Weights by the reference's names. RandomState's numbers are frozen for good; Generator's are not."""
    config = CONFIGS[name]
    names = published_shapes(dit_leaves(config))
    random = np.random.RandomState(0)
    state = {}
    for key in sorted(names):
        values = random.standard_normal(names[key]) * 0.1
        state[key] = (values + ("norm" in key and key.endswith("weight"))).astype(np.float32)
    return state


def inputs_of(config: DiTConfig, shape: tuple[int, ...], levels: int):
    random = np.random.RandomState(1)
    x = random.standard_normal((*shape, config.in_channels))
    t = random.uniform(0.0, 1000.0, (shape[0], levels) if levels > 1 else shape[:1])
    length = TEXT_LENGTH if config.image_width is None else TEXT_LENGTH_WITH_IMAGE
    inputs = [x, t, random.standard_normal((shape[0], length, config.text_width))]
    if config.image_width is not None:
        inputs.append(random.standard_normal((shape[0], IMAGE_TOKENS, config.image_width)))
    return tuple(jnp.asarray(a, jnp.float32) for a in inputs)


def case(name: str):
    """(config, state dict, (x, timestep, text[, image]))."""
    config, shape, levels = CASES[name]
    return CONFIGS[config], state_dict(config), inputs_of(CONFIGS[config], shape, levels)
