"""Weights of diffusers' `AutoencoderKLWan` (Wan 2.1 and 2.2) as parameters of `sora_jax.models.vae.VAE`.

Torch keeps a kernel as [out, in, t, h, w]; here it is [t, h, w, in, out]. Where a published kernel has an axis of one
(a convolution along time only, or 1x1x1), that axis is dropped.
"""

from collections.abc import Mapping

import numpy as np

from sora_jax.models.vae import VAEConfig


class _Reader:
    """Takes tensors out of a state by name and remembers which are left."""

    def __init__(self, state):
        self.state = state
        self.left = set(state)

    def __call__(self, name):
        if name not in self.state:
            raise ValueError(
                f"The VAE's weights lack {name}: they are of another architecture than the config."
            )
        self.left.discard(name)
        return np.asarray(self.state[name])

    def conv(self, name):
        return {
            "kernel": np.moveaxis(self(f"{name}.weight"), (0, 1), (-1, -2)),
            "bias": self(f"{name}.bias"),
        }

    def time_conv(self, name):
        conv = self.conv(name)
        return {"kernel": conv["kernel"][:, 0, 0], "bias": conv["bias"]}

    def linear(self, name):
        conv = self.conv(name)
        return {"kernel": conv["kernel"].reshape(conv["kernel"].shape[-2:]), "bias": conv["bias"]}

    def norm(self, name):
        return {"scale": self(f"{name}.gamma").reshape(-1)}

    def res_block(self, name):
        block = {
            "norm1": self.norm(f"{name}.norm1"),
            "conv1": self.conv(f"{name}.conv1"),
            "norm2": self.norm(f"{name}.norm2"),
            "conv2": self.conv(f"{name}.conv2"),
        }
        if f"{name}.conv_shortcut.weight" in self.state:
            block["shortcut"] = self.linear(f"{name}.conv_shortcut")
        return block

    def attention(self, name):
        return {
            "norm": self.norm(f"{name}.norm"),
            "qkv": self.linear(f"{name}.to_qkv"),
            "out": self.linear(f"{name}.proj"),
        }

    def mid(self, name):
        return {
            "block_0": self.res_block(f"{name}.resnets.0"),
            "attention": self.attention(f"{name}.attentions.0"),
            "block_1": self.res_block(f"{name}.resnets.1"),
        }

    def resample(self, name, temporal):
        # Index 0 of the sequence is the padding or the nearest-neighbour upsampling, which has no weights.
        params = {"space": self.conv(f"{name}.resample.1")}
        if temporal:
            params["time"] = self.time_conv(f"{name}.time_conv")
        return params


def _encoder(read, config):
    params = {"conv_in": read.conv("encoder.conv_in")}
    steps = len(config.multipliers) - 1
    flat = 0
    for i in range(steps + 1):
        level = {}
        for j in range(config.res_blocks):
            name = f"encoder.down_blocks.{i}.resnets.{j}"
            if not config.residual_shortcuts:
                name = f"encoder.down_blocks.{flat}"
                flat += 1
            level[f"block_{j}"] = read.res_block(name)
        if i < steps:
            name = f"encoder.down_blocks.{i}.downsampler"
            if not config.residual_shortcuts:
                name = f"encoder.down_blocks.{flat}"
                flat += 1
            level["downsample"] = read.resample(name, config.temporal_downsample[i])
        params[f"level_{i}"] = level
    return params | _tail(read, "encoder")


def _decoder(read, config):
    params = {"conv_in": read.conv("decoder.conv_in")}
    steps = len(config.multipliers) - 1
    for i in range(steps + 1):
        block = f"decoder.up_blocks.{i}"
        level = {f"block_{j}": read.res_block(f"{block}.resnets.{j}") for j in range(config.res_blocks + 1)}
        if i < steps:
            name = f"{block}.upsampler" if config.residual_shortcuts else f"{block}.upsamplers.0"
            level["upsample"] = read.resample(name, config.temporal_downsample[::-1][i])
        params[f"level_{i}"] = level
    return params | _tail(read, "decoder")


def _tail(read, name):
    return {
        "mid": read.mid(f"{name}.mid_block"),
        "norm_out": read.norm(f"{name}.norm_out"),
        "conv_out": read.conv(f"{name}.conv_out"),
    }


def from_diffusers_vae(state: Mapping[str, np.ndarray], config: VAEConfig) -> dict:
    """A state dict with diffusers' names -> the nested parameters of `VAE(config)`, in the state's dtype.

    Raises ValueError naming the tensor where one that the config needs is missing, or one is left over.
    """
    read = _Reader(state)
    params = {
        "encoder": _encoder(read, config),
        "moments": read.linear("quant_conv"),
        "unmoments": read.linear("post_quant_conv"),
        "decoder": _decoder(read, config),
    }
    if read.left:
        raise ValueError(
            f"The VAE's weights hold {len(read.left)} tensors that the config has no place for, "
            f"{min(read.left)} among them: they are of another architecture."
        )
    return params
