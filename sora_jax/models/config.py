"""A model is three networks and how it is best sampled; this is its config, its JSON, and the named ones."""

import dataclasses
import json
import types
import typing
from typing import Any, Literal

from sora_jax.models.dit import (
    DIT_PLAYGROUND,
    DIT_WAN2_1_T2V_1_3B,
    DIT_WAN2_1_T2V_14B,
    DIT_WAN2_2_TI2V_5B,
    DiTConfig,
)
from sora_jax.models.text import TEXT_PLAYGROUND, TEXT_UMT5_XXL, TextConfig
from sora_jax.models.vae import VAE_PLAYGROUND, VAE_WAN2_1, VAE_WAN2_2, VAEConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class SamplingDefaults:
    """What a clip is sampled with where the user says nothing."""

    steps: int = 50
    guidance: float = 5.0
    """1 is no guidance (arXiv 2207.12598)."""
    sampler: Literal["unipc", "dpmpp", "heun", "euler"] = "unipc"
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
        if self.guidance < 0:
            raise ValueError(f"guidance is {self.guidance} and must be 0 or more.")


@dataclasses.dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The three networks and the sampling defaults of a model.

    `flow_shift` is s of σ' = s·σ / (1 + (s-1)·σ). Raises ValueError when the networks don't fit one
    another, or the default size doesn't fit them.
    """

    name: str
    dit: DiTConfig
    vae: VAEConfig
    text: TextConfig
    flow_shift: float
    mask_text: bool = True
    """Whether padding after the prompt is hidden from the denoiser. Wan's networks see it, as zeros."""
    whole_timesteps: bool = False
    """Whether samplers whose published form cuts the fraction off 1000·σ do so, as Wan's networks are sampled."""
    defaults: SamplingDefaults

    def __post_init__(self):
        if not self.flow_shift > 0:
            raise ValueError(f"flow_shift is {self.flow_shift} and must be above 0.")
        if self.dit.in_channels != self.vae.latent_channels or self.dit.out_channels != self.dit.in_channels:
            raise ValueError(
                f"{self.name}: the DiT goes from {self.dit.in_channels} to {self.dit.out_channels} channels "
                f"and must keep the VAE's {self.vae.latent_channels}."
            )
        if self.dit.text_width != self.text.width:
            raise ValueError(
                f"{self.name}: the DiT takes text of width {self.dit.text_width} and the encoder gives "
                f"{self.text.width}: they must be equal."
            )
        latent = self.vae.latent_shape(self.defaults.frames, self.defaults.height, self.defaults.width)
        if any(size % patch for size, patch in zip(latent, self.dit.patch, strict=False)):
            raise ValueError(
                f"{self.name}: default latents {latent[:3]} must be multiples of the patch {self.dit.patch}."
            )


def to_json(config: ModelConfig) -> str:
    """The config as JSON text, every field written out."""
    return json.dumps(dataclasses.asdict(config), indent=2, ensure_ascii=False) + "\n"


def from_json(text: str) -> ModelConfig:
    """The inverse of `to_json`.

    Raises ValueError for text that is no JSON, and names missing and unknown keys and wrong values.
    """
    return _parse(ModelConfig, text)


def vae_from_json(text: str) -> VAEConfig:
    """A VAE's config of its own, from JSON; errors as in `from_json`."""
    return _parse(VAEConfig, text)


def _parse(kind: Any, text: str) -> Any:
    try:
        tree = json.loads(text)
    except ValueError as error:
        raise ValueError(f"the model's config isn't JSON ({error}).") from error
    return _build(kind, tree, "")


def _build(kind: Any, value: Any, where: str) -> Any:
    """`value`, as JSON gives it, as an instance of `kind`. `where` is its dotted place in the file."""
    if dataclasses.is_dataclass(kind):
        return _build_dataclass(kind, value, where)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        if value in arguments:
            return value
    elif origin in (typing.Union, types.UnionType):
        for option in arguments:
            try:
                return _build(option, value, where)
            except ValueError:
                continue
    elif origin is tuple and isinstance(value, list):
        if arguments[-1] is Ellipsis:
            arguments = arguments[:1] * len(value)
        if len(arguments) == len(value):
            pairs = zip(arguments, value, strict=True)
            return tuple(_build(item, v, f"{where}[{i}]") for i, (item, v) in enumerate(pairs))
    elif kind is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    elif isinstance(kind, type) and type(value) is kind:
        return value
    elif kind in (None, type(None)) and value is None:
        return None
    name = kind.__name__ if isinstance(kind, type) and not arguments else str(kind).replace("typing.", "")
    raise ValueError(f"config {where} is {value!r} and must be {name}.")


def _build_dataclass(kind: Any, value: Any, where: str) -> Any:
    place = f"config {where}" if where else "the config"
    if not isinstance(value, dict):
        raise ValueError(f"{place} is {value!r} and must be an object of {kind.__name__}'s fields.")
    known = {field.name for field in dataclasses.fields(kind)}
    missing, unknown = sorted(known - value.keys()), sorted(value.keys() - known)
    if missing or unknown:
        parts = [
            f"{word} {', '.join(keys)}"
            for word, keys in (("lacks", missing), ("has unknown", unknown))
            if keys
        ]
        raise ValueError(f"{place} {' and '.join(parts)}: it must have exactly {kind.__name__}'s fields.")
    hints = typing.get_type_hints(kind)
    prefix = f"{where}." if where else ""
    built = {name: _build(hints[name], value[name], prefix + name) for name in sorted(known)}
    try:
        return kind(**built)
    except ValueError as error:
        raise ValueError(f"{place}: {error}" if where else str(error)) from error


_WAN_NEGATIVE = (
    "overexposed, frozen picture, blurred details, subtitles, painting, gray, low quality, ugly, "
    "compression artifacts, extra fingers, badly drawn hands and faces, deformed limbs, "
    "cluttered background, walking backwards"
)

_PLAYGROUND = ModelConfig(
    name="playground",
    dit=DIT_PLAYGROUND,
    vae=VAE_PLAYGROUND,
    text=TEXT_PLAYGROUND,
    flow_shift=4.0,
    defaults=SamplingDefaults(steps=30, guidance=4.0, height=64, width=64, frames=17, fps=8.0),
)

# Sizes, rates and shifts that the Wan release notes recommend: 480p wants a shift of 3, 720p one of 5.
_WAN2_1_T2V_1_3B = ModelConfig(
    name="wan2_1_t2v_1_3b",
    dit=DIT_WAN2_1_T2V_1_3B,
    vae=VAE_WAN2_1,
    text=TEXT_UMT5_XXL,
    flow_shift=3.0,
    mask_text=False,
    whole_timesteps=True,
    defaults=SamplingDefaults(height=480, width=832, frames=81, fps=16.0, negative_prompt=_WAN_NEGATIVE),
)
_WAN2_1_T2V_14B = dataclasses.replace(
    _WAN2_1_T2V_1_3B,
    name="wan2_1_t2v_14b",
    dit=DIT_WAN2_1_T2V_14B,
    flow_shift=5.0,
    defaults=dataclasses.replace(_WAN2_1_T2V_1_3B.defaults, height=720, width=1280),
)
_WAN2_2_TI2V_5B = dataclasses.replace(
    _WAN2_1_T2V_14B,
    name="wan2_2_ti2v_5b",
    dit=DIT_WAN2_2_TI2V_5B,
    vae=VAE_WAN2_2,
    defaults=dataclasses.replace(_WAN2_1_T2V_14B.defaults, height=704, frames=121, fps=24.0),
)

MODELS: dict[str, ModelConfig] = {
    config.name: config for config in (_PLAYGROUND, _WAN2_1_T2V_1_3B, _WAN2_1_T2V_14B, _WAN2_2_TI2V_5B)
}
