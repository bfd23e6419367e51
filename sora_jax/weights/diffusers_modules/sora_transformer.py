"""A denoiser for diffusers' Wan pipelines: `WanTransformer3DModel` and what it lacks of a sora_jax model's."""
# Torch finds submodules and configs by name only when it runs.
# pyright: reportAttributeAccessIssue=false, reportArgumentType=false, reportCallIssue=false, reportIndexIssue=false

from typing import Any

import torch
from diffusers.configuration_utils import register_to_config
from diffusers.models.attention import FeedForward
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_wan import WanAttnProcessor, WanTransformer3DModel
from torch import nn


class NeighbourFeedForward(FeedForward):
    """A feed-forward network that also sees the eight tokens around each in its frame."""

    def __init__(self, width: int, inner_width: int):
        super().__init__(width, inner_dim=inner_width, activation_fn="gelu-approximate")
        self.neighbours = nn.Conv2d(width, width, 3, padding=1, groups=width, bias=False)
        self.grid = (1, 1, 1)

    def forward(self, hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        frames, rows, columns = self.grid
        tokens = hidden_states.unflatten(1, (frames, rows, columns)).flatten(0, 1).permute(0, 3, 1, 2)
        around = self.neighbours(tokens).permute(0, 2, 3, 1).unflatten(0, (-1, frames)).flatten(1, 3)
        return super().forward(hidden_states + around, *args, **kwargs)


class MaskedTextProcessor(WanAttnProcessor):
    """Attention to the text that leaves out the padding after a prompt."""

    mask: torch.Tensor | None = None

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, rotary_emb=None):
        return super().__call__(attn, hidden_states, encoder_hidden_states, self.mask, rotary_emb)


class SoraTransformer3DModel(WanTransformer3DModel):
    """See `sora_jax.models.dit`: `neighbours` and `prediction` are those of its `DiTConfig`.

    With `mask_text` rows of zeros, which pipelines pad a prompt with, are not attended to.
    """

    @register_to_config
    def __init__(
        self,
        patch_size: tuple[int, ...] = (1, 2, 2),
        num_attention_heads: int = 40,
        attention_head_dim: int = 128,
        in_channels: int = 16,
        out_channels: int = 16,
        text_dim: int = 4096,
        freq_dim: int = 256,
        ffn_dim: int = 13824,
        num_layers: int = 40,
        cross_attn_norm: bool = True,
        qk_norm: str | None = "rms_norm_across_heads",
        eps: float = 1e-6,
        image_dim: int | None = None,
        added_kv_proj_dim: int | None = None,
        rope_max_seq_len: int = 1024,
        pos_embed_seq_len: int | None = None,
        neighbours: bool = False,
        prediction: str = "velocity",
        mask_text: bool = False,
    ):
        super().__init__(
            patch_size=patch_size,
            num_attention_heads=num_attention_heads,
            attention_head_dim=attention_head_dim,
            in_channels=in_channels,
            out_channels=out_channels,
            text_dim=text_dim,
            freq_dim=freq_dim,
            ffn_dim=ffn_dim,
            num_layers=num_layers,
            cross_attn_norm=cross_attn_norm,
            qk_norm=qk_norm,
            eps=eps,
            image_dim=image_dim,
            added_kv_proj_dim=added_kv_proj_dim,
            rope_max_seq_len=rope_max_seq_len,
            pos_embed_seq_len=pos_embed_seq_len,
        )
        for block in self.blocks:
            if neighbours:
                block.ffn = NeighbourFeedForward(num_attention_heads * attention_head_dim, ffn_dim)
            if mask_text:
                block.attn2.set_processor(MaskedTextProcessor())

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        encoder_hidden_states_image: torch.Tensor | None = None,
        return_dict: bool = True,
        attention_kwargs: dict[str, Any] | None = None,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        frames, rows, columns = hidden_states.shape[2:]
        patch_frames, patch_rows, patch_columns = self.config.patch_size
        grid = (frames // patch_frames, rows // patch_rows, columns // patch_columns)
        present = (encoder_hidden_states != 0).any(-1)[:, None, None]
        for block in self.blocks:
            if self.config.neighbours:
                block.ffn.grid = grid
            if self.config.mask_text:
                block.attn2.processor.mask = present
        out = super().forward(
            hidden_states,
            timestep,
            encoder_hidden_states,
            encoder_hidden_states_image,
            return_dict=False,
            attention_kwargs=attention_kwargs,
        )[0]
        if self.config.prediction == "preconditioned":
            out = self._velocity(hidden_states, out, timestep, grid)
        return Transformer2DModelOutput(sample=out) if return_dict else (out,)

    def _velocity(self, x, out, timestep, grid):
        """v = ((2σ - 1) x_σ + √q F) / q, where q = σ² + (1 - σ)²."""
        sigma = timestep.float() / 1000
        if sigma.ndim == 2:
            sigma = sigma.unflatten(1, grid)
            for axis, size in enumerate(self.config.patch_size, start=1):
                sigma = sigma.repeat_interleave(size, dim=axis)
            sigma = sigma[:, None]
        else:
            sigma = sigma[:, None, None, None, None]
        q = sigma.square() + (1 - sigma).square()
        return (((2 * sigma - 1) * x.float() + q.sqrt() * out.float()) / q).type_as(out)
