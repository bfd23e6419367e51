"""Clips in and out of files: mp4, webm, gif, webp, png, and sheets of frames to look at."""

from sora_jax.media.clip import Clip, from_uint8, psnr, to_uint8
from sora_jax.media.decode import Limits, MediaWarning, opaque, read, rgb
from sora_jax.media.encode import ENDINGS, check_output, write
from sora_jax.media.metadata import read_metadata
from sora_jax.media.sheet import contact_sheet

__all__ = [
    "ENDINGS",
    "Clip",
    "Limits",
    "MediaWarning",
    "check_output",
    "contact_sheet",
    "from_uint8",
    "opaque",
    "psnr",
    "read",
    "read_metadata",
    "rgb",
    "to_uint8",
    "write",
]
