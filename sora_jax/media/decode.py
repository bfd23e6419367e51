"""Reading real files: bounded before decoding, upright, square-pixelled, opaque, at one frame rate."""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import FFmpegError
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter
from PIL import Image, ImageColor, ImageOps

from sora_jax.media import metadata as meta
from sora_jax.media.clip import Clip
from sora_jax.media.sniff import VIDEO_FORMATS, kind_of

__all__ = ["Limits", "MediaWarning", "opaque", "read", "rgb"]

Size = tuple[int, int] | Callable[[int, int], tuple[int, int]]
"""(height, width) in pixels, or what gives it for a file's own height and width."""

# Small bright objects lose 3 dB at their edges with FFmpeg's default.
CHROMA_UPSAMPLING = Interpolation.BICUBIC | Interpolation.ACCURATE_RND | Interpolation.FULL_CHR_H_INT


class MediaWarning(UserWarning):
    """Part of a file isn't taken."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """What a file may ask for, checked against its header before decoding and against each frame after."""

    file_bytes: int = 1 << 30
    side: int = 8192
    """Pixels along either side of a frame."""
    pixels: int = 1 << 26
    """Pixels in one frame: a phone's picture has up to 50 million."""
    frames: int = 3600
    """Frames in the file, before any are dropped for a lower rate."""
    seconds: float = 300.0
    volume: int = 1 << 28
    """Pixels of all frames of the clip that is returned (12 bytes each)."""


@dataclass(frozen=True)
class _Header:
    width: int
    height: int
    frames: int  # 0 where the file doesn't say
    seconds: float  # 0 where the file doesn't say


@dataclass(frozen=True)
class _Shown:
    """One frame and when it is shown, in seconds."""

    start: float
    seconds: float
    image: Image.Image


def read(
    path: str | Path,
    *,
    size: Size | None = None,
    fps: float | None = None,
    max_frames: int | None = None,
    background: str = "black",
    limits: Limits | None = None,
) -> Clip:
    """The clip in an mp4, mov, webm, mkv, gif, webp, png or jpeg file.

    size: (height, width) in pixels, or a function of the file's own; the middle of the frame at that aspect is kept
        and scaled, each frame as it is decoded. None keeps the file's own.
    fps: frames per second; each is what the file shows at that moment. None keeps the file's rate, or the
        rate of its shortest frames where it varies (a still image: 1).
    max_frames: stops after so many frames.
    background: colour laid under transparent pixels, by name or as #rrggbb.

    Sound is dropped with a warning. Metadata is what `write` kept there. Raises OSError for a file that
    can't be opened, ValueError for one that can't be decoded or that goes over `limits`.
    """
    path, limits = Path(path), limits or Limits()
    under = rgb(background)
    if size is not None and not callable(size) and min(size) < 1:
        raise ValueError(
            f"a size of {size[0]}x{size[1]} has no pixels: give a height and width of at least 1"
        )
    if fps is not None and not 0 < fps < 1e4:
        raise ValueError(f"a frame rate of {fps} cannot be used: give a number above 0")
    kind = kind_of(path)
    if (length := path.stat().st_size) > limits.file_bytes:
        raise ValueError(
            f"{path} has {length:,} bytes, over the limit of {limits.file_bytes:,}: cut it first"
        )
    found = meta.read_metadata(path)
    try:
        if kind in VIDEO_FORMATS:
            images, rate = _resample(path, _video(path, kind, limits), size, fps, max_frames, under, limits)
        else:
            # WebP and GIF writers merge equal frames, so the file itself no longer knows the rate.
            written = None if kind == "PNG" else _number(found, "fps")
            frames = _image(path, kind, limits, found)
            images, rate = _resample(path, frames, size, fps or written, max_frames, under, limits)
    except (FFmpegError, OSError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be decoded ({error}): it is damaged or cut short") from None
    written = _number(found, "fps")
    close = written is not None and abs(written - rate) <= 0.03 * rate
    return Clip.from_uint8(images, written if close and written and fps is None else rate, found)


def _number(metadata: dict[str, Any], name: str) -> float | None:
    value = metadata.get(name)
    return float(value) if isinstance(value, int | float) and 0 < value < 1e4 else None


def rgb(name: str) -> tuple[int, int, int]:
    """Red, green, blue in [0, 255] of a colour by name or as #rrggbb; ValueError for another."""
    try:
        return cast(tuple[int, int, int], ImageColor.getrgb(name)[:3])
    except ValueError:
        raise ValueError(f"{name!r} is no colour: give a name such as black, or #rrggbb") from None


def _check(path: Path, header: _Header, limits: Limits) -> None:
    w, h = header.width, header.height
    if w < 1 or h < 1:
        raise ValueError(f"{path} has frames of {w}x{h} pixels: it is damaged")
    if max(w, h) > limits.side or w * h > limits.pixels:
        raise ValueError(
            f"{path} has frames of {w}x{h} pixels, over the limit of {limits.pixels:,} pixels "
            f"and {limits.side} a side: scale it down first"
        )
    if header.frames > limits.frames:
        raise ValueError(
            f"{path} has {header.frames} frames, over the limit of {limits.frames}: cut it first"
        )
    if header.seconds > limits.seconds:
        raise ValueError(
            f"{path} lasts {header.seconds:.1f} s, over the limit of {limits.seconds:g} s: cut it first"
        )


def _resample(
    path: Path,
    shown: Iterator[_Shown],
    size: Size | None,
    fps: float | None,
    max_frames: int | None,
    under: tuple[int, int, int],
    limits: Limits,
) -> tuple[np.ndarray, float]:
    """Frames as uint8 [t, h, w, 3] at an even rate, holding no more of the file in memory than is kept."""
    kept: list[np.ndarray] = []
    starts: list[float] = []
    origin, end, count = None, 0.0, 0
    previous: Image.Image | None = None

    def keep(image: Image.Image) -> bool:
        nonlocal size
        size = size(image.height, image.width) if callable(size) else size
        frame = _fit(image, size, under)
        if kept and kept[0].shape != frame.shape:
            raise ValueError(f"{path} changes its frame size half way: give a size to bring all frames to")
        kept.append(frame)
        if len(kept) * frame.shape[0] * frame.shape[1] > limits.volume:
            raise ValueError(
                f"{path} holds over {limits.volume:,} pixels in all its frames: "
                "give a smaller size or a lower rate"
            )
        return max_frames is not None and len(kept) >= max_frames

    for frame in shown:
        count += 1
        origin = frame.start if origin is None else origin
        start = frame.start - origin
        end = max(end, start + frame.seconds)
        _check(path, _Header(*frame.image.size, count, end), limits)
        if fps is not None:
            # Output k is the last frame to start by k / fps: the previous one is due until this one starts.
            while previous is not None and len(kept) / fps + _tolerance(fps) < start:
                if keep(previous):
                    return np.stack(kept), fps
            previous = frame.image
        else:
            starts.append(start)
            if keep(frame.image):
                break
    if not count:
        raise ValueError(f"{path} holds no frames that can be decoded: it is damaged or cut short")
    if fps is not None and previous is not None:
        while not kept or len(kept) + 1 <= end * fps + 0.25:
            if keep(previous):
                break
        return np.stack(kept), fps
    return _even(np.stack(kept), np.asarray(starts), end)


def _even(frames: np.ndarray, starts: np.ndarray, end: float) -> tuple[np.ndarray, float]:
    """Frames at an even rate: repeated where the file shows them longer than its shortest ones."""
    if len(frames) == 1 or end <= 0:
        return frames, 1.0 / end if end > 0 else 1.0
    mean = len(frames) / end
    if np.abs(starts * mean - np.arange(len(frames))).max() < 0.5:
        return frames, _tidy(mean)
    # A tenth of the frames may come too close together: cameras stutter.
    rate = _tidy(1 / float(np.quantile(np.diff(starts), 0.1, method="higher")))
    due = np.arange(max(int(end * rate + 0.25), 1)) / rate
    return frames[np.searchsorted(starts, due + _tolerance(rate), side="right") - 1], rate


def _tolerance(rate: float) -> float:
    """Seconds that a frame may start late and still be on time: files round to hundredths of a second."""
    return min(0.006, 0.25 / rate)


def _tidy(rate: float) -> float:
    """A rate that rounding of times moved off a round number, back on it."""
    for scale in (1.0, 1001 / 1000):
        near = round(rate * scale) / scale
        if near and abs(rate - near) < 2e-3 * rate:
            return near
    return rate


def opaque(image: Image.Image, under: tuple[int, int, int] = (0, 0, 0)) -> Image.Image:
    """The picture in red, green and blue of 8 bits, what is transparent laid on a colour."""
    if image.mode.startswith("I;16"):
        # `convert` would cut these off at 255.
        gray = np.asarray(image).astype(np.float32) / 257
        image = Image.fromarray(np.rint(gray).astype(np.uint8))
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, under), image)
    return image.convert("RGB")


def _fit(image: Image.Image, size: tuple[int, int] | None, under: tuple[int, int, int]) -> np.ndarray:
    image = opaque(image, under)
    if size is not None and image.size != (size[1], size[0]):
        h, w = size
        scale = min(image.width / w, image.height / h)
        left, top = (image.width - w * scale) / 2, (image.height - h * scale) / 2
        box = (
            max(left, 0.0),
            max(top, 0.0),
            min(left + w * scale, image.width),
            min(top + h * scale, image.height),
        )
        image = image.resize((w, h), Image.Resampling.LANCZOS, box=box)
    return np.asarray(image)


def _image(path: Path, kind: str, limits: Limits, found: dict[str, Any]) -> Iterator[_Shown]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # our own limits say it better
        image = Image.open(path, formats=[kind])
    with image:
        _check(path, _Header(*image.size, 0, 0.0), limits)
        count = getattr(image, "n_frames", 1)
        _check(path, _Header(*image.size, count, 0.0), limits)
        start = 0.0
        for index in range(count):
            image.seek(index)
            image.load()
            seconds = float(image.info.get("duration") or 0) / 1000
            if count > 1 and seconds <= 0.01:
                seconds = 0.1  # as every browser shows them
            if count == 1 and kind == "WEBP" and "frames" in found:  # a clip in which nothing moved
                seconds = (_number(found, "frames") or 1.0) / (_number(found, "fps") or 1.0)
            yield _Shown(start, seconds, ImageOps.exif_transpose(image))
            start += seconds


def _video(path: Path, kind: str, limits: Limits) -> Iterator[_Shown]:
    with av.open(str(path.resolve()), format=VIDEO_FORMATS[kind], metadata_errors="ignore") as container:
        if not container.streams.video:
            raise ValueError(f"{path} holds no video")
        stream = container.streams.video[0]
        seconds = container.duration / av.time_base if container.duration else 0.0
        expected = stream.frames or round(seconds * float(stream.average_rate or 0))
        _check(path, _Header(stream.width, stream.height, expected, seconds), limits)
        if container.streams.audio:
            warnings.warn(f"{path.name}: its sound is dropped", MediaWarning, stacklevel=4)
        tags = {name.lower(): value for name, value in container.metadata.items()}
        crop = _original_size(tags.get(meta.TAG + "_size", ""), stream.width, stream.height)
        aspect = float(stream.sample_aspect_ratio or 1) or 1.0
        default = 1.0 / float(stream.average_rate or stream.guessed_rate or 25)
        reformatter, start = VideoReformatter(), -default
        for frame in _decoded(container, stream):
            _check(path, _Header(frame.width, frame.height, 0, 0.0), limits)
            start = start + default if frame.time is None else frame.time
            length = (
                float(frame.duration * frame.time_base) if frame.duration and frame.time_base else default
            )
            image = _rgb(frame, reformatter)
            if crop:
                image = image.crop((0, 0, *crop))
            if abs(aspect - 1) > 0.01:
                wide = min(max(round(image.width * aspect), 1), limits.side)
                image = image.resize((wide, image.height), Image.Resampling.LANCZOS)
            yield _Shown(start, length, _upright(image, frame.rotation))


def _decoded(container: Any, stream: Any) -> Iterator[av.VideoFrame]:
    alpha = {name.lower(): value for name, value in stream.metadata.items()}.get("alpha_mode") == "1"
    if alpha and stream.codec_context.name in ("vp8", "vp9"):
        # FFmpeg's own decoders ignore the second, transparent layer; libvpx's read it.
        name = {"vp8": "libvpx", "vp9": "libvpx-vp9"}[stream.codec_context.name]
        decoder = cast(Any, av.CodecContext.create(name, "r"))
        for packet in container.demux(stream):
            for frame in decoder.decode(packet):
                if frame.time_base is None:
                    frame.time_base = stream.time_base
                yield frame
    else:
        stream.thread_type = "AUTO"
        yield from container.decode(stream)


def _rgb(frame: av.VideoFrame, reformatter: VideoReformatter) -> Image.Image:
    alpha = "a" in frame.format.name.replace("gray", "").replace("pal8", "a")
    target = "rgba" if alpha else "rgb24"
    converted = reformatter.reformat(
        frame, format=target, dst_color_range=ColorRange.JPEG, interpolation=CHROMA_UPSAMPLING
    )
    return Image.fromarray(converted.to_ndarray())


def _original_size(text: str, width: int, height: int) -> tuple[int, int] | None:
    """The size before `write` padded it to even sides, where it says one that fits."""
    w, _, h = text.partition("x")
    if w.isdecimal() and h.isdecimal() and 0 <= width - int(w) <= 1 and 0 <= height - int(h) <= 1:
        return int(w), int(h)
    return None


def _upright(image: Image.Image, degrees: int) -> Image.Image:
    turns = {90: Image.Transpose.ROTATE_90, 180: Image.Transpose.ROTATE_180, 270: Image.Transpose.ROTATE_270}
    turn = turns.get(degrees % 360)
    return image.transpose(turn) if turn is not None else image
