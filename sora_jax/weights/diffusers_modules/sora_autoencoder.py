"""An autoencoder for diffusers' Wan pipelines: Wan 2.2's, some of whose levels keep the height and width."""
# Torch finds submodules and configs by name only when it runs.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from diffusers.configuration_utils import register_to_config
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import nn


class SoraAutoencoderKL(AutoencoderKLWan):
    """`spatial_downsample` says for each step between the encoder's levels whether it halves height and width."""

    @register_to_config
    def __init__(
        self,
        base_dim: int,
        decoder_base_dim: int,
        z_dim: int,
        dim_mult: list[int],
        num_res_blocks: int,
        temperal_downsample: list[bool],
        spatial_downsample: list[bool],
        latents_mean: list[float],
        latents_std: list[float],
        in_channels: int,
        out_channels: int,
        patch_size: int | None,
        scale_factor_temporal: int,
        scale_factor_spatial: int,
        attn_scales: list[float] = [],  # noqa: B006 - as diffusers has it
        dropout: float = 0.0,
        is_residual: bool = True,
    ):
        if not is_residual:
            raise ValueError("only an autoencoder with shortcuts (is_residual) keeps the height and width.")
        super().__init__(
            base_dim=base_dim,
            decoder_base_dim=decoder_base_dim,
            z_dim=z_dim,
            dim_mult=dim_mult,
            num_res_blocks=num_res_blocks,
            attn_scales=attn_scales,
            temperal_downsample=temperal_downsample,
            dropout=dropout,
            latents_mean=latents_mean,
            latents_std=latents_std,
            is_residual=is_residual,
            in_channels=in_channels,
            out_channels=out_channels,
            patch_size=patch_size,
            scale_factor_temporal=scale_factor_temporal,
            scale_factor_spatial=scale_factor_spatial,
        )
        for level, halves in zip(self.encoder.down_blocks, spatial_downsample, strict=False):
            if not halves:
                level.downsampler.resample = nn.Identity()
                level.avg_shortcut = _of_time_alone(level.avg_shortcut)
        for level, doubles in zip(self.decoder.up_blocks, reversed(spatial_downsample), strict=False):
            if not doubles:
                level.upsampler.resample[0] = nn.Identity()
                level.avg_shortcut = _of_time_alone(level.avg_shortcut)


def _of_time_alone(shortcut):
    return type(shortcut)(shortcut.in_channels, shortcut.out_channels, factor_t=shortcut.factor_t, factor_s=1)
