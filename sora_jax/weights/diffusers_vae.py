"""Weights of diffusers' `AutoencoderKLWan` (Wan 2.1 and 2.2) to and from parameters of `sora_jax.models.vae.VAE`.

Where a published tensor ends in axes of one (a convolution along time only, a pointwise one, a norm's scale) ours
has none.
"""

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from sora_jax.models.vae import VAEConfig
from sora_jax.weights.layout import Leaf, Tensor, check, gather, leaf, scatter
from sora_jax.weights.shapes import parameter_shapes

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


def vae_leaves(config: VAEConfig) -> dict[str, Leaf]:
    """Where each parameter of `VAE(config)` lies in diffusers' state dict."""
    leaves = {}
    for path, shape in parameter_shapes(config).items():
        # A kernel is [out, in, ...] as published and [..., in, out] here.
        n = len(shape)
        axes = (*range(2, n), 1, 0) if path.endswith("kernel") else tuple(range(n))
        leaves[path] = leaf(shape, diffusers_name(path, config), axes, ndim=n + _axes_of_one(path))
    return leaves


def _axes_of_one(path: str) -> int:
    """How many trailing axes of one the published tensor has."""
    if path.endswith("bias"):
        return 0
    if "attention/" in path or "sample/time" in path:
        return 2
    return 3 if re.search(r"norm|shortcut|moments", path) else 0


def from_diffusers_vae(state: Mapping[str, Tensor], config: VAEConfig, dtype: Any = None) -> dict[str, Any]:
    """A state dict with diffusers' names -> the nested parameters of `VAE(config)`.

    Raises ValueError naming the tensor where one that the config needs is missing or has another shape, or one is
    left over.
    """
    leaves = vae_leaves(config)
    check(state, leaves, "the VAE's state")
    return gather(state, leaves, dtype)


def to_diffusers_vae(params: Mapping[str, Any], config: VAEConfig) -> dict[str, np.ndarray]:
    """The inverse of `from_diffusers_vae`."""
    return scatter(params, vae_leaves(config))
