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

__all__ = [
    "check_memory",
    "decoder_bytes",
    "denoiser_bytes",
    "device_memory",
    "held_bytes",
    "plan_tiles",
    "tile_bytes",
]

SHARE = 0.9
"""Of the memory that is planned with; the rest is for what the estimates leave out."""
TILE_SIDES = (128, 96, 64, 48, 32, 24, 16)
"""Latents along a tile, largest first; a quarter of it overlaps."""
WORKING_FEATURES = 6
"""Copies of the widest features that the decoder's finest level works on at once. With 6, what XLA's CPU compiler
reports of Wan 2.1's and 2.2's decoders at a width of 16 is 0.6 to 0.75 of the estimate whole, 0.85 to 1 in chunks."""


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
    # Two frames before every convolution, as they come in and as they go out: the coarser levels have as many as the
    # finest.
    convolutions = 2 * (vae.res_blocks + 1) + 1
    left = 2 * 2 * 2 * convolutions * vae.decoder_width * vae.multipliers[0] if chunked else 0
    side = vae.spatial_factor
    logits = (height // side * (width // side)) ** 2 * (1 if chunked else -(-frames // vae.temporal_factor))
    return 4 * clips * (positions * (work + left) + logits)


def tile_bytes(vae: VAEConfig, tiles: Tiles) -> int:
    """Of decoding one chunk of one tile of one clip."""
    side = vae.spatial_factor
    frames = tiles.chunk * vae.temporal_factor
    return decoder_bytes(vae, 1, frames, tiles.height * side, tiles.width * side, chunked=True)


def plan_tiles(vae: VAEConfig, clips: int, latent: tuple[int, int, int], budget: int) -> Tiles | None:
    """How clips of latents (t, h, w) are coded within `budget` bytes: None is all at once, else one after another.

    In chunks of time alone where a whole frame fits, else in the largest tiles that do; in the smallest there are
    where none does.
    """
    t, h, w = latent
    side = vae.spatial_factor
    if decoder_bytes(vae, clips, 1 + (t - 1) * vae.temporal_factor, h * side, w * side) <= budget:
        return None
    sizes = [Tiles(height=side, width=side, overlap=side // 4) for side in TILE_SIDES if side < max(h, w)]
    sizes = [Tiles(height=h, width=w), *sizes]
    return next((tiles for tiles in sizes if tile_bytes(vae, tiles) <= budget), sizes[-1])


def check_memory(config: ModelConfig, request: Request, held: int = 0, fused: bool = False) -> None:
    """Raises ValueError for a request that the device can't hold beside the `held` bytes of the weights."""
    have, size = device_memory(), request.size
    latent = config.vae.latent_shape(size.frames, size.height, size.width)[:3]
    tiles = plan_tiles(config.vae, len(request.prompts), latent, int(SHARE * have) - held)
    need = held + max(denoiser_bytes(config, request, fused), tile_bytes(config.vae, tiles) if tiles else 0)
    if need > have:
        raise ValueError(
            f"{len(request.prompts)} clips of {size.width}x{size.height} and {size.frames} frames need about "
            f"{need / 2**30:,.0f} GiB and this device has {have / 2**30:,.0f}: "
            "ask for a smaller or shorter clip, or fewer variations."
        )
