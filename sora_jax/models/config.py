"""A model is its networks and how it is best sampled; this is its config, its JSON, and the named ones."""

import dataclasses
import json
from typing import Any, Literal

from sora_jax.models.dit import (
    DIT_PLAYGROUND,
    DIT_WAN2_1_FLF2V_14B,
    DIT_WAN2_1_I2V_14B,
    DIT_WAN2_1_T2V_1_3B,
    DIT_WAN2_1_T2V_14B,
    DIT_WAN2_2_I2V_A14B,
    DIT_WAN2_2_TI2V_5B,
    DiTConfig,
)
from sora_jax.models.fields import parse
from sora_jax.models.image import IMAGE_VIT_H, ImageConfig
from sora_jax.models.text import TEXT_PLAYGROUND, TEXT_UMT5_XXL, TextConfig
from sora_jax.models.vae import VAE_PLAYGROUND, VAE_WAN2_1, VAE_WAN2_2, VAEConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """What a clip is sampled with where the user says nothing."""

    steps: int = 50
    guidance: float = 5.0
    """1 is no guidance (arXiv 2207.12598)."""
    guidance_2: float | None = None
    """That of the expert of low noise; None is the same."""
    sampler: Literal["unipc", "dpmpp", "heun", "euler", "ancestral"] = "unipc"
    height: int
    """Pixels, as is width."""
    width: int
    frames: int
    fps: float
    """Frames a second."""
    negative_prompt: str = ""

    def __post_init__(self):
        for field in ("steps", "height", "width", "frames"):
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)} and must be at least 1.")
        if not self.fps > 0:
            raise ValueError(f"fps is {self.fps} and must be above 0.")
        for field in ("guidance", "guidance_2"):
            if (value := getattr(self, field)) is not None and value < 0:
                raise ValueError(f"{field} is {value} and must be 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The networks and the sampling defaults of a model.

    `flow_shift` is s of σ' = s·σ / (1 + (s-1)·σ). Raises ValueError when the networks don't fit one
    another, or the default size doesn't fit them.
    """

    name: str
    dit: DiTConfig
    vae: VAEConfig
    text: TextConfig
    image: ImageConfig | None = None
    """The image encoder whose tokens the denoiser attends to, if it does."""
    boundary_ratio: float | None = None
    """With it there are two denoisers of one config: `dit` for noise levels from it up, `dit_2` below (Wan 2.2)."""
    known_frames: bool = True
    """Whether the denoiser was trained with frames at level 0: an image can be the clip's first."""
    flow_shift: float
    mask_text: bool = True
    """Whether padding after the prompt is hidden from the denoiser. Wan's networks see it, as zeros."""
    whole_timesteps: bool = False
    """Whether samplers whose published form cuts the fraction off 1000·σ do so, as Wan's networks are sampled."""
    defaults: SamplingDefaults

    def __post_init__(self):
        if not self.flow_shift > 0:
            raise ValueError(f"flow_shift is {self.flow_shift} and must be above 0.")
        if self.boundary_ratio is not None and not 0 < self.boundary_ratio < 1:
            raise ValueError(f"boundary_ratio is {self.boundary_ratio} and must lie between 0 and 1.")
        if self.defaults.guidance_2 is not None and self.boundary_ratio is None:
            raise ValueError(
                f"{self.name}: guidance_2 is for a second expert, and there is none without boundary_ratio."
            )
        self._check_channels()
        if self.dit.text_width != self.text.width:
            raise ValueError(
                f"{self.name}: the DiT takes text of width {self.dit.text_width} and the encoder gives "
                f"{self.text.width}: they must be equal."
            )
        if (given := None if self.image is None else self.image.width) != self.dit.image_width:
            raise ValueError(
                f"{self.name}: the DiT takes image tokens of width {self.dit.image_width} and the encoder gives "
                f"{given}: they must be equal."
            )
        if self.image is not None and self.dit.image_positions not in (None, 2 * self.image.tokens):
            raise ValueError(
                f"{self.name}: image_positions is {self.dit.image_positions} and must be twice the image "
                f"encoder's {self.image.tokens} tokens."
            )
        latent = self.vae.latent_shape(self.defaults.frames, self.defaults.height, self.defaults.width)
        if any(size % patch for size, patch in zip(latent, self.dit.patch, strict=False)):
            raise ValueError(
                f"{self.name}: default latents {latent[:3]} must be multiples of the patch {self.dit.patch}."
            )

    def _check_channels(self):
        latent, beside = self.vae.latent_channels, self.vae.temporal_factor + self.vae.latent_channels
        if self.dit.in_channels not in (latent, latent + beside) or self.dit.out_channels != latent:
            raise ValueError(
                f"{self.name}: the DiT goes from {self.dit.in_channels} to {self.dit.out_channels} channels "
                f"and must keep the VAE's {latent}, with {beside} more coming in if it needs an image."
            )

    @property
    def needs_image(self) -> bool:
        """Whether known frames come in beside the noise, as a mask and latents (Wan's image-to-video networks)."""
        return self.dit.in_channels != self.dit.out_channels

    @property
    def networks(self) -> dict[str, Any]:
        """The config of each network by the name that its parameters go by."""
        second = {} if self.boundary_ratio is None else {"dit_2": self.dit}
        image = {} if self.image is None else {"image": self.image}
        return {"dit": self.dit, **second, "vae": self.vae, "text": self.text, **image}

    def expert(self, sigma: float) -> str:
        """The name of the denoiser for a noise level in [0, 1]."""
        return "dit" if self.boundary_ratio is None or sigma >= self.boundary_ratio else "dit_2"


def to_json(config: ModelConfig) -> str:
    """The config as JSON text, every field written out."""
    return json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> ModelConfig:
    """The inverse of `to_json`; a field that has a default may be missing.

    Raises ValueError for text that is no JSON, and names missing and unknown keys and wrong values.
    """
    return parse(ModelConfig, text, "config")


def vae_from_json(text: str) -> VAEConfig:
    """A VAE's config of its own, from JSON; errors as in `from_json`."""
    return parse(VAEConfig, text, "config")


# What the Wan releases steer away from: garish, overexposed, static, blurred, subtitled, deformed...
_WAN_NEGATIVE = (
    "色调艳丽，过曝，静态，细节模糊不清，字幕，风格，作品，画作，画面，静止，整体发灰，最差质量，低质量，"
    "JPEG压缩残留，丑陋的，残缺的，多余的手指，画得不好的手部，画得不好的脸部，畸形的，毁容的，形态畸形的肢体，"
    "手指融合，静止不动的画面，杂乱的背景，三条腿，背景人很多，倒着走"
)
_SHAKE, _CUT = "镜头晃动，", "镜头切换，"

_PLAYGROUND = ModelConfig(
    name="playground",
    dit=DIT_PLAYGROUND,
    vae=VAE_PLAYGROUND,
    text=TEXT_PLAYGROUND,
    flow_shift=4.0,
    defaults=SamplingDefaults(
        steps=60, guidance=4.0, sampler="ancestral", height=64, width=64, frames=17, fps=8.0
    ),
)

# Sizes, rates, steps, shifts and guidance that the Wan releases set: 480p wants a shift of 3, 720p one of 5.
_WAN2_1_T2V_1_3B = ModelConfig(
    name="wan2_1_t2v_1_3b",
    dit=DIT_WAN2_1_T2V_1_3B,
    vae=VAE_WAN2_1,
    text=TEXT_UMT5_XXL,
    known_frames=False,
    flow_shift=3.0,
    mask_text=False,
    whole_timesteps=True,
    defaults=SamplingDefaults(height=480, width=832, frames=81, fps=16.0, negative_prompt=_WAN_NEGATIVE),
)


def _like(
    base: ModelConfig, name: str, defaults: dict[str, Any] | None = None, **changes: Any
) -> ModelConfig:
    sampling = dataclasses.replace(base.defaults, **(defaults or {}))
    return dataclasses.replace(base, name=name, defaults=sampling, **changes)


_720P = {"height": 720, "width": 1280}
_WAN2_1_T2V_14B = _like(_WAN2_1_T2V_1_3B, "wan2_1_t2v_14b", _720P, dit=DIT_WAN2_1_T2V_14B, flow_shift=5.0)
_WAN2_1_I2V_14B_480P = _like(
    _WAN2_1_T2V_1_3B,
    "wan2_1_i2v_14b_480p",
    {"steps": 40, "negative_prompt": _SHAKE + _WAN_NEGATIVE},
    dit=DIT_WAN2_1_I2V_14B,
    image=IMAGE_VIT_H,
)
_WAN2_1_I2V_14B_720P = _like(_WAN2_1_I2V_14B_480P, "wan2_1_i2v_14b_720p", _720P, flow_shift=5.0)
_WAN2_1_FLF2V_14B_720P = _like(
    _WAN2_1_I2V_14B_720P,
    "wan2_1_flf2v_14b_720p",
    {"steps": 50, "negative_prompt": _CUT + _SHAKE + _WAN_NEGATIVE},
    dit=DIT_WAN2_1_FLF2V_14B,
    flow_shift=16.0,
)
_WAN2_2_T2V_A14B = _like(
    _WAN2_1_T2V_14B,
    "wan2_2_t2v_a14b",
    {"steps": 40, "guidance": 4.0, "guidance_2": 3.0},
    boundary_ratio=0.875,
    flow_shift=12.0,
)
_WAN2_2_I2V_A14B = _like(
    _WAN2_1_T2V_14B,
    "wan2_2_i2v_a14b",
    {"steps": 40, "guidance": 3.5, "guidance_2": 3.5},
    dit=DIT_WAN2_2_I2V_A14B,
    boundary_ratio=0.9,
)
_WAN2_2_TI2V_5B = _like(
    _WAN2_1_T2V_14B,
    "wan2_2_ti2v_5b",
    {"height": 704, "frames": 121, "fps": 24.0},
    dit=DIT_WAN2_2_TI2V_5B,
    vae=VAE_WAN2_2,
    known_frames=True,
)

MODELS: dict[str, ModelConfig] = {
    config.name: config
    for config in (
        *(_PLAYGROUND, _WAN2_1_T2V_1_3B, _WAN2_1_T2V_14B),
        *(_WAN2_1_I2V_14B_480P, _WAN2_1_I2V_14B_720P, _WAN2_1_FLF2V_14B_720P),
        *(_WAN2_2_T2V_A14B, _WAN2_2_I2V_A14B, _WAN2_2_TI2V_5B),
    )
}
