"""Weights of diffusers' `AutoencoderKLWan` (Wan 2.1 and 2.2) to and from parameters of `sora_jax.models.vae.VAE`.

Torch keeps a kernel as [out, in, t, h, w]; here it is [t, h, w, in, out]. Where a published tensor ends in axes of
one (a convolution along time only, a pointwise one, a norm's scale) they are dropped.
"""

import re
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from sora_jax.models.vae import VAE, VAEConfig

_RENAMED = (
    (r"unmoments", "post_quant_conv"),
    (r"moments", "quant_conv"),
    (r"\bmid\b", "mid_block"),
    (r"mid_block/block_(\d)", r"mid_block/resnets/\1"),
    (r"mid_block/attention", "mid_block/attentions/0"),
    (r"(level_\d+)/block_(\d+)", r"\1/resnets/\2"),
    (r"qkv\b", "to_qkv"),
    (r"\bout\b", "proj"),
    (r"shortcut\b", "conv_shortcut"),
    # Entry 0 of the sequence pads or repeats pixels and has no weights.
    (r"sample/space", "sample/resample/1"),
    (r"sample/time", "sample/time_conv"),
    (r"kernel\b", "weight"),
    (r"scale\b", "gamma"),
)


def diffusers_name(path: str, config: VAEConfig) -> str:
    """The name in diffusers of a parameter or module of ours, such as "encoder/mid/block_0/conv1/kernel"."""
    for ours, theirs in _RENAMED:
        path = re.sub(ours, theirs, path)
    if config.residual_shortcuts:
        path = path.replace("downsample", "downsampler").replace("upsample", "upsampler")
    else:
        # Wan 2.1's encoder is one flat list: each level's blocks, then its downsampling.
        def flat(found):
            inside = config.res_blocks if found[2] == "downsample" else int(found[3])
            return f"encoder/down_blocks/{int(found[1]) * (config.res_blocks + 1) + inside}"

        path = re.sub(r"encoder/level_(\d+)/(resnets/(\d+)|downsample)", flat, path)
        path = path.replace("upsample", "upsamplers/0")
    path = re.sub(r"encoder/level_", "encoder/down_blocks/", path)
    path = re.sub(r"decoder/level_", "decoder/up_blocks/", path)
    return path.replace("/", ".")


def _axes_of_one(path):
    """How many trailing axes of one the published tensor has."""
    if path.endswith("bias"):
        return 0
    if "attention/" in path or "sample/time" in path:
        return 2
    return 3 if re.search(r"norm|shortcut|moments", path) else 0


def parameter_shapes(config):
    clip = jax.ShapeDtypeStruct((1, 1, config.spatial_factor, config.spatial_factor, 3), jnp.float32)
    params = jax.eval_shape(lambda key, x: VAE(config).init(key, x)["params"], jax.random.key(0), clip)
    flat: dict[str, Any] = flatten_dict(nn.meta.unbox(params), sep="/")  # pyright: ignore
    return {path: leaf.shape for path, leaf in flat.items()}


def from_diffusers_vae(state: Mapping[str, np.ndarray], config: VAEConfig) -> dict:
    """A state dict with diffusers' names -> the nested parameters of `VAE(config)`, in the state's dtype.

    Raises ValueError naming the tensor where one that the config needs is missing or has another shape, or one is
    left over.
    """
    params = {}
    left = set(state)
    for path, shape in parameter_shapes(config).items():
        name = diffusers_name(path, config)
        if name not in state:
            raise ValueError(
                f"the VAE's weights lack {name}: they are of another architecture than the config."
            )
        left.discard(name)
        value = np.asarray(state[name])
        published = published_shape(path, shape)
        if value.shape != published:
            raise ValueError(
                f"{name} is {value.shape}: the config wants {published}; give the config it was made with."
            )
        value = value.reshape(published[: len(published) - _axes_of_one(path)])
        params[path] = np.moveaxis(value, (0, 1), (-1, -2)) if path.endswith("kernel") else value
    if left:
        raise ValueError(
            f"the VAE's weights hold {len(left)} tensors that the config has no place for, {min(left)} among them: "
            "they are of another architecture."
        )
    return unflatten_dict(params, sep="/")


def published_shape(path, shape):
    if path.endswith("kernel"):
        shape = (shape[-1], shape[-2], *shape[:-2])
    return (*shape, *(1 for _ in range(_axes_of_one(path))))


def to_diffusers_vae(params: Mapping, config: VAEConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_vae`."""
    state = {}
    for path, value in flatten_dict(dict(params), sep="/").items():
        value = np.asarray(value)
        moved = np.moveaxis(value, (-1, -2), (0, 1)) if path.endswith("kernel") else value
        state[diffusers_name(path, config)] = moved.reshape(published_shape(path, value.shape))
    return state
