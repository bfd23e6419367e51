"""What a request takes of a device's memory, and how the clip is decoded where it doesn't fit whole.

Estimates, to choose by and to refuse what can't work: the features of the widest place of each network, in float32,
and attention's logits where no fused kernel keeps them off the memory.
"""

import os
from typing import Any

import jax

from sora_jax.models.config import ModelConfig
from sora_jax.models.vae import VAEConfig
from sora_jax.models.vae_tiles import Tiles
from sora_jax.studio.request import Request

__all__ = ["check_memory", "decoder_bytes", "denoiser_bytes", "device_memory", "held_bytes", "plan_tiles"]

SHARE = 0.9
"""Of the memory that is planned with; the rest is for what the estimates leave out."""
TILE_SIDES = (128, 96, 64, 48, 32, 24, 16)
"""Latents along a tile, largest first; a quarter of it overlaps."""


def device_memory() -> int:
    """Bytes that programs of this process may use on the first device: its limit, or the machine's memory on a CPU."""
    stats = jax.devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def held_bytes(params: Any) -> int:
    """Bytes of the arrays that lie on the device; those on the host don't count."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(params) if isinstance(leaf, jax.Array))


def denoiser_bytes(config: ModelConfig, request: Request, fused: bool = False) -> int:
    """Of one step of the denoiser, without its weights. `fused`: no logits are kept."""
    size, dit = request.size, config.dit
    t, h, w, _ = config.vae.latent_shape(size.frames, size.height, size.width)
    tokens = (t // dit.patch[0]) * (h // dit.patch[1]) * (w // dit.patch[2])
    per_token = 6 * dit.width + 2 * dit.ffn_width + (0 if fused else dit.heads * tokens)
    return 4 * len(request.prompts) * (2 if request.guided else 1) * tokens * per_token


def decoder_bytes(
    vae: VAEConfig, clips: int, frames: int, height: int, width: int, chunked: bool = False
) -> int:
    """Of decoding `frames` frames of height x width pixels at once; `chunked` adds the frames that a chunk leaves."""
    positions = (height // vae.patch_size) * (width // vae.patch_size)
    features = vae.decoder_width * max(vae.multipliers[0], vae.multipliers[min(1, len(vae.multipliers) - 1)])
    work = WORKING_FEATURES * frames * features
    # Two frames before every convolution of the finest level, as they come in and as they go out.
    left = 2 * 2 * (2 * (vae.res_blocks + 1) + 1) * vae.decoder_width * vae.multipliers[0] if chunked else 0
    side = vae.spatial_factor
    logits = (height // side * (width // side)) ** 2 * (1 if chunked else -(-frames // vae.temporal_factor))
    return 4 * clips * (positions * (work + left) + logits)


WORKING_FEATURES = 4


def plan_tiles(vae: VAEConfig, latent: tuple[int, int, int], budget: int) -> Tiles | None:
    """How one clip's latents (t, h, w) are decoded within `budget` bytes: None is whole, else in chunks and tiles.

    The largest tiles that fit; the smallest there are where none does (`check_memory` says so).
    """
    t, h, w = latent
    side, frames = vae.spatial_factor, vae.temporal_factor
    if decoder_bytes(vae, 1, 1 + (t - 1) * frames, h * side, w * side) <= budget:
        return None
    if decoder_bytes(vae, 1, frames, h * side, w * side, chunked=True) <= budget:
        return Tiles(height=h, width=w)
    for tile in TILE_SIDES:
        if decoder_bytes(vae, 1, frames, min(tile, h) * side, min(tile, w) * side, chunked=True) <= budget:
            break
    return Tiles(height=tile, width=tile, overlap=tile // 4)
