"""What tells cheaply how much the denoiser's velocity is about to change, for the rules of `sora_jax.diffusion.cache`.

    modulated input (TeaCache, arXiv 2411.19108):    LayerNorm(y)·(1 + γ) + β of the first block
    first block (ParaAttention's cache):             Block_0(y) - y

y are the embedded patches. The first block is run a second time where its step is evaluated after all.
"""

from typing import Any

import jax
import jax.numpy as jnp

from sora_jax.models.dit import Block, DiTConfig, modulate
from sora_jax.nn.embed import ImageProjection, TextProjection, TimeEmbedding
from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm
from sora_jax.ops.patchify import patchify
from sora_jax.ops.rope import rope_3d
from sora_jax.typing import Array, Float

__all__ = ["first_block", "modulated_input"]


def _embedded(params, x, timestep, config, dtype):
    """Tokens y [b, n, d], the level's steering [b, g, 6, d] and the grid of the tokens."""
    c = config
    tokens = patchify(x, c.patch)
    b, *grid = tokens.shape[:-1]
    timestep = timestep if timestep.ndim == 2 else timestep[:, None]
    level: Any = TimeEmbedding(c.width, c.freq_width).apply({"params": params["time"]}, timestep)
    steer: Any = Linear(6 * c.width).apply({"params": params["time_modulation"]}, jax.nn.silu(level))
    tokens = tokens.reshape(b, -1, tokens.shape[-1])
    y: Any = Linear(c.width, dtype=dtype).apply({"params": params["patch_embedding"]}, tokens)
    return y, steer.reshape(b, timestep.shape[1], 6, c.width), (grid[0], grid[1], grid[2])


def modulated_input(
    params: Any, x: Array, timestep: Array, config: DiTConfig, dtype: Any = jnp.float32
) -> Float[Array, "b n d"]:
    """What the first block's self attention reads; arguments as of `DiT`."""
    y, steer, _ = _embedded(params, x, timestep, config, dtype)
    table = params["blocks"]["modulation"][0].reshape(1, 1, 6, config.width)
    steer = table.astype(jnp.float32) + steer
    y: Any = LayerNorm(config.eps).apply({}, y.astype(jnp.float32))
    return modulate(y, steer[:, :, 0], steer[:, :, 1])


def first_block(
    params: Any,
    x: Array,
    timestep: Array,
    text: Array,
    text_mask: Array | None,
    image: Array | None,
    config: DiTConfig,
    dtype: Any = jnp.float32,
) -> Float[Array, "b n d"]:
    """What the first block adds to the tokens; arguments as of `DiT`."""
    y, steer, grid = _embedded(params, x, timestep, config, dtype)
    words: Any = TextProjection(config.width, dtype).apply({"params": params["text"]}, text)
    picture: Any = image
    if image is not None:
        project = ImageProjection(config.width, config.image_positions, dtype)
        picture = project.apply({"params": params["image"]}, image)
    block = jax.tree.map(lambda leaf: leaf[0], params["blocks"])
    inputs = (y, steer, words, rope_3d(grid, config.head_width), text_mask, picture)
    after: Any = Block(config, grid, dtype).apply({"params": block}, *inputs)
    return (after[0] - y).astype(jnp.float32)
