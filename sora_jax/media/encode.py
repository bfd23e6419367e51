"""Writing clips: mp4, webm, gif, webp or png by the file's ending, in one piece or not at all."""

import io
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.error import BlockingIOError as NotYet
from av.error import EOFError as Ended
from av.filter import Graph
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from sora_jax.media import metadata as meta
from sora_jax.media.atomic import atomic, check_place
from sora_jax.media.clip import Clip
from sora_jax.media.sheet import grid

__all__ = ["ENDINGS", "check_output", "write"]

BT709 = 1  # in H.273, for primaries, transfer and matrix alike
LIMITED_RANGE = 1
# Up to this size of frame the best quality costs little: lossless WebP, near-lossless H.264.
SMALL = 256 * 256
# GIF counts in hundredths of a second, and browsers slow a delay of one hundredth down to ten.
GIF_FASTEST = 50.0


def check_output(path: str | Path) -> Path:
    """`path` if a clip can be written there, so that a long computation can be refused before it starts.

    Raises ValueError for an unknown ending, OSError for a folder that is missing or cannot be written to.
    """
    path = Path(path)
    if path.suffix.lower() not in WRITERS:
        raise ValueError(
            f"{path} ends in {path.suffix or 'nothing'}, but a clip is written as one of: {ENDINGS}"
        )
    return check_place(path)


def write(path: str | Path, clip: Clip) -> Path:
    """Writes `clip` and its metadata to `path` and returns the path; an older file there is replaced.

    mp4 is H.264 4:2:0 with its index in front; an odd side is padded by one pixel, which `read` takes off.
    webm is VP9, gif has one palette made for the clip, webp is lossless up to 256x256 and quality 90 above.
    png holds one frame; of a longer clip it holds a sheet of all frames in rows.
    On one machine, equal clips give equal bytes.

    Raises ValueError for an unknown ending or metadata that JSON can't hold, OSError for a place that can't
    be written to. The file appears whole or not at all.
    """
    path = check_output(path)
    tags = {**clip.metadata, "fps": clip.fps, "frames": len(clip)}
    text = meta.dumps(tags)
    with atomic(path) as temporary:
        WRITERS[path.suffix.lower()](temporary, clip, text)
    return path


def _rate(fps: float) -> Fraction:
    return Fraction(fps).limit_denominator(1001)


def _mp4(path: Path, clip: Clip, text: str) -> None:
    frames = clip.to_uint8()
    h, w = frames.shape[1:3]
    tags = {meta.TAG: text}
    if h % 2 or w % 2:
        tags[meta.TAG + "_size"] = f"{w}x{h}"
        frames = np.pad(frames, ((0, 0), (0, h % 2), (0, w % 2), (0, 0)), mode="edge")
    container = av.open(
        str(path),
        "w",
        format="mp4",
        options={"movflags": "use_metadata_tags+faststart", "fflags": "+bitexact"},
    )
    _encode(container, frames, clip, "libx264", {"crf": "10" if h * w <= SMALL else "17"}, tags, "left")


def _webm(path: Path, clip: Clip, text: str) -> None:
    container = av.open(str(path), "w", format="webm", options={"fflags": "+bitexact"})
    options = {"crf": "20", "b": "0", "deadline": "good", "cpu-used": "3", "row-mt": "1"}
    _encode(container, clip.to_uint8(), clip, "libvpx-vp9", options, {meta.TAG: text}, "center")


def _encode(
    container: Any,
    frames: np.ndarray,
    clip: Clip,
    codec: str,
    options: dict[str, str],
    tags: dict[str, str],
    chroma: str,
) -> None:
    with container:
        container.metadata.update(tags)
        if prompt := clip.metadata.get("prompt"):
            container.metadata["title"] = str(prompt)[:1000]
        stream = container.add_stream(codec, rate=_rate(clip.fps), options=options)
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "yuv420p"
        context = stream.codec_context
        context.colorspace = context.color_primaries = context.color_trc = BT709
        context.color_range = LIMITED_RANGE
        for index, frame in enumerate(_yuv(frames, chroma)):
            frame.pts, frame.time_base = index, 1 / _rate(clip.fps)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def _yuv(frames: np.ndarray, chroma: str) -> Iterator[av.VideoFrame]:
    """BT.709 limited range 4:2:0, its colour samples where this codec's decoders look for them."""
    graph, source = _graph(frames)
    scale = graph.add(
        "scale",
        f"out_color_matrix=bt709:out_range=tv:out_chroma_loc={chroma}"
        ":flags=bicubic+accurate_rnd+full_chroma_inp+bitexact",
    )
    form, sink = graph.add("format", "pix_fmts=yuv420p"), graph.add("buffersink")
    source.link_to(scale)
    scale.link_to(form)
    form.link_to(sink)
    graph.configure()
    for image in frames:
        graph.push(av.VideoFrame.from_ndarray(image, format="rgb24"))
        yield cast(av.VideoFrame, graph.pull())


def _graph(frames: np.ndarray) -> tuple[Graph, Any]:
    h, w = frames.shape[1:3]
    graph = Graph()
    form = av.VideoFormat("rgb24", w, h)
    return graph, graph.add_buffer(width=w, height=h, format=form, time_base=Fraction(1, 100))


def _gif(path: Path, clip: Clip, text: str) -> None:
    frames, fps = clip.to_uint8(), clip.fps
    if fps > GIF_FASTEST:
        fps = GIF_FASTEST
        frames = frames[(np.arange(max(int(clip.seconds * fps), 1)) * clip.fps / fps).astype(int)]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="gif", options={"loop": "0"}) as container:
        stream = cast(Any, container.add_stream("gif", rate=_rate(fps)))
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "pal8"
        stream.codec_context.time_base = Fraction(1, 100)
        graph = _palette_graph(frames)
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = round(index * 100 / fps), Fraction(1, 100)
            graph.push(frame)
        graph.push(None)
        for frame in _drain(graph):
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    path.write_bytes(meta.with_gif_comment(buffer.getvalue(), text))


def _palette_graph(frames: np.ndarray) -> Graph:
    graph, source = _graph(frames)
    split, palette = graph.add("split"), graph.add("palettegen", "stats_mode=full:reserve_transparent=0")
    use, sink = graph.add("paletteuse", "dither=sierra2_4a"), graph.add("buffersink")
    source.link_to(split)
    split.link_to(palette, 0, 0)
    split.link_to(use, 1, 0)
    palette.link_to(use, 0, 1)
    use.link_to(sink)
    graph.configure()
    return graph


def _drain(graph: Graph) -> Iterator[av.VideoFrame]:
    while True:
        try:
            yield cast(av.VideoFrame, graph.pull())
        except (NotYet, Ended):
            return


def _webp(path: Path, clip: Clip, text: str) -> None:
    first, *rest = [Image.fromarray(image) for image in clip.to_uint8()]
    exif = Image.Exif()
    exif[meta.EXIF_DESCRIPTION] = text
    # Rounding the times, not the durations, keeps the whole as long as it should be.
    times = [round(1000 * index / clip.fps) for index in range(len(rest) + 2)]
    lossless = first.width * first.height <= SMALL
    animated = {"save_all": True, "append_images": rest, "loop": 0, "duration": np.diff(times).tolist()}
    first.save(
        path, format="WEBP", exif=exif, lossless=lossless, quality=90, method=4, **(animated if rest else {})
    )


def _png(path: Path, clip: Clip, text: str) -> None:
    info = PngInfo()
    info.add_text(meta.TAG, text)
    frames = clip.to_uint8()
    image = Image.fromarray(frames[0]) if len(frames) == 1 else grid(frames)
    image.save(path, format="PNG", pnginfo=info)


WRITERS: dict[str, Callable[[Path, Clip, str], None]] = {
    ".mp4": _mp4,
    ".webm": _webm,
    ".gif": _gif,
    ".webp": _webp,
    ".png": _png,
}
ENDINGS = " ".join(WRITERS)
