"""How a clip was made, kept inside its file as one JSON object.

mp4 and webm hold it as a tag, gif as a comment block, webp in EXIF's image description, png as a text chunk.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import av
from av.error import FFmpegError
from PIL import Image

from sora_jax.media.sniff import VIDEO_FORMATS, kind_of

__all__ = ["TAG", "dumps", "read_metadata", "with_gif_comment"]

TAG = "sora_jax"
EXIF_DESCRIPTION = 0x010E


def dumps(metadata: Mapping[str, Any]) -> str:
    """Metadata as ASCII JSON, which every container can hold; raises ValueError for what JSON cannot."""
    try:
        return json.dumps(dict(metadata), ensure_ascii=True, sort_keys=True, default=_plain)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"metadata cannot be written as JSON ({error}): keep to text, numbers and lists"
        ) from None


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if hasattr(value, "tolist"):  # NumPy and JAX scalars and arrays
        return value.tolist()
    raise TypeError(f"a {type(value).__name__} has no JSON form")


def with_gif_comment(gif: bytes, text: str) -> bytes:
    """The GIF with a comment block (GIF89a, section 24) before its first image."""
    flags = gif[10]
    start = 13 + (3 * 2 ** ((flags & 7) + 1) if flags & 0x80 else 0)
    data = text.encode("ascii")
    blocks = b"".join(
        bytes([len(part)]) + part for part in (data[i : i + 255] for i in range(0, len(data), 255))
    )
    return gif[:start] + b"\x21\xfe" + blocks + b"\x00" + gif[start:] if data else gif


def read_metadata(path: str | Path) -> dict[str, Any]:
    """What `write` kept in the file: prompt, seed, settings. Empty for a file that holds none.

    Raises OSError where the file cannot be opened and ValueError where it is no video or image.
    """
    path = Path(path)
    kind = kind_of(path)
    try:
        text = _tag(path, kind) if kind in VIDEO_FORMATS else _image_text(path, kind)
    except (FFmpegError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as {kind} ({error}): it may be cut short") from None
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}  # somebody else's comment
    return found if isinstance(found, dict) else {}


def _tag(path: Path, kind: str) -> str | None:
    with av.open(str(path.resolve()), format=VIDEO_FORMATS[kind], metadata_errors="ignore") as container:
        # Matroska writes tag names in capitals.
        return {name.lower(): value for name, value in container.metadata.items()}.get(TAG)


def _image_text(path: Path, kind: str) -> str | None:
    with Image.open(path, formats=[kind]) as image:
        if kind == "PNG":
            return image.info.get(TAG)
        if kind == "GIF":
            return bytes(image.info.get("comment", b"")).decode("utf-8", "replace")
        return image.getexif().get(EXIF_DESCRIPTION)
