"""What a generation is given besides words and noise: every edit of a clip comes down to this.

known latents at level 0, the levels that the others start from, a source under their noise, words for each time
"""

import dataclasses

import numpy as np

from sora_jax.models.config import ModelConfig
from sora_jax.typing import Array, Bool, Float

__all__ = ["Given", "check_edit", "check_known"]


def check_known(config: ModelConfig) -> None:
    """Raises ValueError for a model that can't be given known frames."""
    if not config.known_frames:
        raise ValueError(
            f"{config.name} was not trained with known frames and can't go on from a clip: take a model that was, "
            "such as playground or wan2_2_ti2v_5b."
        )


def check_edit(config: ModelConfig, known: Bool[np.ndarray, "..."]) -> None:
    """Raises ValueError for a model that can't make what isn't known of a timeline."""
    if config.needs_image:
        raise ValueError(
            f"{config.name} begins every clip with an image: it animates one and makes no other edit. Take a model "
            "without that for this, such as playground or wan2_2_ti2v_5b."
        )
    if known.any() and not known.all():
        check_known(config)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Given:
    """Of a batch of b clips, or of one for all of them where an axis is 1; t, h and w count latents."""

    latents: Float[Array, "b t h w c"] | None = None
    """Kept where `unknown` is false."""
    unknown: Bool[np.ndarray, "#b t"] | Bool[np.ndarray, "#b t h w"] | None = None
    source: Float[Array, "b t h w c"] | None = None
    """What the noise is laid on (SDEdit, arXiv 2108.01073)."""
    strength: Float[np.ndarray, "t"] | None = None
    """The noise level in [0, 1] that each latent frame starts from; 1 forgets the source."""
    levels: Float[np.ndarray, "levels t"] | None = None
    """The noise levels of each latent frame before each step and after the last, in place of the sampler's."""
    scripts: tuple[tuple[str, ...], ...] = ()
    """Prompts in place of the request's, [k][b], which share the clip's time by `weights`."""
    weights: Float[np.ndarray, "k t"] | None = None
    """Each script's share of each latent frame; the shares of a frame sum to 1."""
    beside: Float[Array, "b t h w k"] | None = None
    """Channels that come into the denoiser after the noise."""
    tokens: Float[Array, "b m e"] | None = None
    """Of an image encoder."""
