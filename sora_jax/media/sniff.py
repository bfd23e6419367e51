"""What a file is, from its first bytes: an ending can lie, and a demuxer that guesses may open playlists."""

from pathlib import Path

__all__ = ["VIDEO_FORMATS", "kind_of"]

# FFmpeg's demuxer for each kind of video; images go by Pillow's names.
VIDEO_FORMATS = {"mp4": "mov", "webm": "matroska"}


def kind_of(path: Path) -> str:
    """`mp4` (mov too), `webm` (mkv too), `GIF`, `WEBP`, `PNG` or `JPEG`.

    Raises OSError where the file cannot be opened, ValueError where it is none of these.
    """
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, but a video or image file is needed")
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path} does not exist") from None
    except OSError as error:
        raise OSError(f"{path} cannot be opened ({error.strerror})") from None
    if not head:
        raise ValueError(f"{path} is empty")
    if head[4:8] in (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip"):
        return "mp4"
    if head[:4] == b"\x1a\x45\xdf\xa3":
        return "webm"
    if head[:6] in (b"GIF87a", b"GIF89a"):
        return "GIF"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    if head[:8] == b"\x89PNG\r\n\x1a\n":
        return "PNG"
    if head[:3] == b"\xff\xd8\xff":
        return "JPEG"
    raise ValueError(f"{path} is no mp4, mov, webm, gif, webp, png or jpeg: convert it to one of these")
