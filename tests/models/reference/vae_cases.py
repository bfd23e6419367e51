"""Tiny VAEs of the two published kinds, with weights and clips that are the same on every machine."""

import zlib

import numpy as np

from sora_jax.models.vae import VAEConfig
from sora_jax.weights.diffusers_vae import vae_leaves

CONFIGS = {
    "wan2_1": VAEConfig(
        base_width=6,
        decoder_width=6,
        latent_channels=3,
        multipliers=(1, 2, 2),
        res_blocks=2,
        temporal_downsample=(False, True),
    ),
    "wan2_2": VAEConfig(
        base_width=4,
        decoder_width=6,
        latent_channels=5,
        multipliers=(1, 2, 2, 2),
        res_blocks=1,
        temporal_downsample=(False, True, True),
        residual_shortcuts=True,
        patch_size=2,
    ),
}
# (frames, height, width) of clips, in latent units for the size.
CLIPS = {"image": (1, 1, 2), "clip": (5, 3, 1), "long": (13, 1, 1)}
STAGES = {
    "wan2_1": (
        "encoder/level_0/block_0",
        "encoder/level_1/downsample",
        "encoder/mid/attention",
        "encoder/mid",
        "decoder/mid/attention",
        "decoder/level_0/upsample",
        "decoder/level_1",
    ),
    "wan2_2": (
        "encoder/level_0",
        "encoder/level_1/downsample",
        "encoder/level_1",
        "encoder/mid/attention",
        "encoder/mid",
        "decoder/level_0/block_0",
        "decoder/level_0/upsample",
        "decoder/level_1",
        "decoder/level_2",
    ),
}


def _draw(name: str, shape: tuple[int, ...]) -> np.ndarray:
    # RandomState's stream is frozen by NumPy's policy, a Generator's is not.
    return np.random.RandomState(zlib.crc32(name.encode())).standard_normal(shape).astype(np.float32)


def state(name: str) -> dict[str, np.ndarray]:
    """Random weights with diffusers' names, of a size that keeps activations near 1."""
    config = CONFIGS[name]
    found = {}
    for path, leaf in vae_leaves(config).items():
        theirs = leaf.names[0]
        value = _draw(theirs, leaf.shape)
        if path.endswith("kernel"):
            value = value / np.sqrt(np.prod(value.shape[1:]), dtype=np.float32)
        else:
            value = 0.1 * value + (1 if path.endswith("scale") else 0)
        found[theirs] = value.astype(np.float32)
    return found


def clip(name: str, size: str) -> np.ndarray:
    """Pixels [b,t,h,w,3]."""
    frames, height, width = CLIPS[size]
    factor = CONFIGS[name].spatial_factor
    return _draw(f"clip {size}", (1, frames, height * factor, width * factor, 3))


def latents(name: str, size: str) -> np.ndarray:
    """Latents [b,t,h,w,c] of the clip's size, for the decoder on its own."""
    config = CONFIGS[name]
    return _draw(f"latents {size}", (1, *config.latent_shape(*clip(name, size).shape[1:4])))
