"""What a request takes of a device's memory, and how the clip is decoded where it doesn't fit whole.

Estimates, to choose by and to refuse what can't work: the features of the widest place of each network, in float32,
and attention's logits where no fused kernel keeps them off the memory.
"""

from typing import Any

import jax

from sora_jax.models.config import ModelConfig
from sora_jax.models.vae_tiles import plan_tiles, tile_bytes
from sora_jax.parallel.memory import SHARE, device_memory
from sora_jax.studio.request import Request

__all__ = ["check_memory", "denoiser_bytes", "held_bytes"]


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
