"""The networks' parameters without their numbers: shapes, dtypes and logical axes, traced from the modules."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax import traverse_util

from sora_jax.models.config import ModelConfig
from sora_jax.models.dit import DiT, DiTConfig
from sora_jax.models.image import ImageConfig, ImageEncoder
from sora_jax.models.text import TextConfig, TextEncoder
from sora_jax.models.vae import VAE, VAEConfig

Network = DiTConfig | VAEConfig | TextConfig | ImageConfig


def abstract_params(config: ModelConfig) -> dict[str, Any]:
    """Trees like `Checkpoint.params`, of `jax.ShapeDtypeStruct`s: the shapes alone."""
    return {name: parameter_tree(network) for name, network in config.networks.items()}


def parameter_tree(config: Network) -> Any:
    """A network's parameters as nested `ShapeDtypeStruct`s."""
    return nn.unbox(abstract(config))


@functools.lru_cache(maxsize=32)
def abstract(config: Network) -> Any:
    """A network's parameters as `ShapeDtypeStruct`s in the boxes that hold their logical axes."""
    array = jax.ShapeDtypeStruct
    if isinstance(config, DiTConfig):
        x = array((1, *config.patch, config.in_channels), jnp.float32)
        text = array((1, 1, config.text_width), jnp.float32)
        module, inputs = DiT(config), (x, array((1,), jnp.float32), text)
        if config.image_width is not None:
            tokens = array((1, config.image_positions or 1, config.image_width), jnp.float32)
            inputs = (*inputs, None, None, tokens)
    elif isinstance(config, VAEConfig):
        side = config.spatial_factor
        module, inputs = VAE(config), (array((1, 1 + config.temporal_factor, side, side, 3), jnp.float32),)
    elif isinstance(config, TextConfig):
        module, inputs = TextEncoder(config), (array((1, 2), jnp.int32), array((1, 2), jnp.bool_))
    else:
        module = ImageEncoder(config)
        inputs = (array((1, config.size, config.size, 3), jnp.float32),)
    return jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]


def parameter_shapes(config: Network) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter by its "/"-joined path."""
    flat: dict[str, Any] = traverse_util.flatten_dict(parameter_tree(config), sep="/")  # pyright: ignore
    return {path: leaf.shape for path, leaf in flat.items()}
