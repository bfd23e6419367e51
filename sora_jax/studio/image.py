"""Image to video: a picture becomes what the denoiser knows of the clip.

A network trained with frames at level 0 has the picture as its first frame (Wan 2.2 TI2V, the playground). Wan's
image-to-video networks see it beside the noise instead: four channels that say which frames are known, then the
latents of the clip that has them and is gray elsewhere; those of Wan 2.1 also attend to its CLIP tokens.
"""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageOps

from sora_jax.media import Clip, from_uint8, opaque, read, to_uint8
from sora_jax.models.config import ModelConfig
from sora_jax.models.image import prepare
from sora_jax.models.vae import encode_chunked, normalize
from sora_jax.studio import programs
from sora_jax.studio.given import Given
from sora_jax.studio.size import ClipSize

__all__ = ["Picture", "aspect_of", "check_pictures", "known_of", "pixels_of"]

Picture = str | Path | np.ndarray | Clip | Image.Image
"""A file, uint8 or float pixels in [-1, 1] of shape [h, w, 3], a clip (its first frame) or a PIL image."""


def check_pictures(config: ModelConfig, image: Any, last_image: Any) -> None:
    """Raises ValueError for pictures that the model doesn't take, or where it lacks one that it needs."""
    name, takes = config.name, config.needs_image or config.known_frames
    if image is None and (config.needs_image or last_image is not None):
        raise ValueError(f"{name} makes a clip from its first image: give one, as in image='photo.png'.")
    if image is not None and not takes:
        raise ValueError(
            f"{name} makes clips from words alone: leave the image out, or take a model that starts from one, "
            "such as wan2_2_ti2v_5b."
        )
    if last_image is not None and (
        not config.needs_image or (config.image and not config.dit.image_positions)
    ):
        raise ValueError(
            f"{name} takes a first image and no last one: leave last_image out, or take wan2_2_i2v_a14b."
        )
    if last_image is None and config.dit.image_positions:
        raise ValueError(f"{name} makes a clip between two images: give last_image too.")


def pixels_of(picture: Picture) -> np.ndarray:
    """The picture as uint8 [h, w, 3]; ValueError for what is none, OSError for a file that can't be opened."""
    if isinstance(picture, str | Path):
        picture = read(picture, max_frames=1)
    if isinstance(picture, Clip):
        return picture.to_uint8()[0]
    if isinstance(picture, Image.Image):
        return np.asarray(opaque(ImageOps.exif_transpose(picture)))
    array = np.asarray(picture)
    if array.ndim != 3 or array.shape[-1] != 3 or 0 in array.shape or array.dtype.kind not in "uf":
        raise ValueError(
            f"the image is {array.dtype}{list(array.shape)} and must be [height, width, 3], uint8 or floats in [-1, 1]."
        )
    return array if array.dtype == np.uint8 else to_uint8(array)


def aspect_of(pixels: np.ndarray) -> str:
    """WIDTH:HEIGHT."""
    return f"{pixels.shape[1]}:{pixels.shape[0]}"


def _fill(pixels: np.ndarray, size: ClipSize) -> np.ndarray:
    """The picture's middle at the clip's shape and size, float32 [h, w, 3] in [-1, 1]."""
    fitted = ImageOps.fit(Image.fromarray(pixels), (size.width, size.height), Image.Resampling.LANCZOS)
    return from_uint8(np.asarray(fitted))


def known_of(
    config: ModelConfig, params: Any, pictures: list[np.ndarray], size: ClipSize, batch: int, dtype: Any
) -> Given:
    """What the denoiser knows of `batch` clips from their first, or their first and last, picture (uint8)."""
    frames = [_fill(pixels, size) for pixels in pictures]
    if len(frames) >= size.frames:
        raise ValueError(
            f"{size.frames} frames leave none to make besides the {len(frames)} given: ask for more of them."
        )
    t = config.vae.latent_shape(size.frames, size.height, size.width)[0]
    if not config.needs_image:
        first = programs.encode(params["vae"], frames[0][None, None], config=config.vae, dtype=dtype)
        latents = jnp.pad(first, ((0, 0), (0, t - 1), (0, 0), (0, 0), (0, 0)))
        return Given(latents=_repeat(latents, batch), unknown=np.arange(t)[None] > 0)
    clip = np.zeros((1, size.frames, size.height, size.width, 3), np.float32)
    shown = np.zeros(size.frames, np.float32)
    for place, frame in zip((0, -1), frames, strict=False):
        clip[0, place], shown[place] = frame, 1
    mean, _ = encode_chunked(params["vae"], clip, config.vae, dtype=dtype)
    latents = normalize(mean, config.vae)
    # The first latent frame is one frame and has its mark in all the channels.
    factor = config.vae.temporal_factor
    marks = np.concatenate([np.repeat(shown[:1], factor), shown[1:]]).reshape(1, t, 1, 1, factor)
    marks = jnp.broadcast_to(jnp.asarray(marks, latents.dtype), (*latents.shape[:4], factor))
    tokens = None
    if config.image is not None:
        seen = np.stack([prepare(pixels, config.image) for pixels in pictures])
        tokens = programs.encode_image(params["image"], seen, config=config.image, dtype=dtype)
        tokens = _repeat(tokens.reshape(1, -1, tokens.shape[-1]), batch)
    return Given(beside=_repeat(jnp.concatenate([marks, latents], axis=-1), batch), tokens=tokens)


def _repeat(a: jax.Array, batch: int) -> jax.Array:
    return jnp.broadcast_to(a, (batch, *a.shape[1:]))
