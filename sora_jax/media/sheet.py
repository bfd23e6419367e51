"""Contact sheets: frames in rows, with labels, for people to look at."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from sora_jax.media.atomic import atomic
from sora_jax.media.clip import Clip

__all__ = ["contact_sheet", "grid"]

GAP = 4
INK, PAPER = (32, 32, 32), (255, 255, 255)
LABEL_SIZE = 14


def grid(frames: np.ndarray, columns: int | None = None) -> Image.Image:
    """uint8 [t, h, w, 3] as one picture, in rows from left to right; near to square by default."""
    t, h, w, _ = frames.shape
    columns = columns or int(np.ceil(np.sqrt(t * h / w)))
    columns = min(max(columns, 1), t)
    rows = -(-t // columns)
    sheet = Image.new("RGB", (columns * (w + GAP) - GAP, rows * (h + GAP) - GAP), PAPER)
    for index, frame in enumerate(frames):
        sheet.paste(Image.fromarray(frame), (index % columns * (w + GAP), index // columns * (h + GAP)))
    return sheet


def contact_sheet(
    clips: Sequence[Clip],
    labels: Sequence[str] | None = None,
    columns: int = 9,
    path: str | Path | None = None,
    *,
    cell_height: int = 96,
) -> Image.Image:
    """A row of `columns` frames, evenly chosen from first to last, for every clip, under its label.

    Frames are drawn `cell_height` pixels high (small ones enlarged without smoothing). Written to `path` as
    PNG where one is given. Raises ValueError where there are no clips, or not a label each.
    """
    if not clips:
        raise ValueError("a contact sheet of no clips has nothing to show: give at least one")
    if labels is not None and len(labels) != len(clips):
        raise ValueError(f"{len(labels)} labels for {len(clips)} clips: give one each, or none")
    if columns < 1:
        raise ValueError(f"a sheet of {columns} columns has no room: give at least 1")
    rows = [_row(clip, columns, cell_height) for clip in clips]
    width = max(row.width for row in rows)
    font = ImageFont.load_default(LABEL_SIZE)
    characters = max(int(width / (LABEL_SIZE * 0.55)), 8)
    texts = ["\n".join(textwrap.wrap(label, characters)[:3]) for label in labels or [""] * len(rows)]
    line = LABEL_SIZE + 5
    heights = [
        row.height + GAP + (line * (text.count("\n") + 1) if text else 0)
        for row, text in zip(rows, texts, strict=True)
    ]
    sheet = Image.new("RGB", (width + 2 * GAP, sum(heights) + GAP), PAPER)
    draw, y = ImageDraw.Draw(sheet), GAP
    for row, text, height in zip(rows, texts, heights, strict=True):
        if text:
            draw.multiline_text((GAP, y), text, fill=INK, font=font, spacing=3)
        sheet.paste(row, (GAP, y + height - GAP - row.height))
        y += height
    if path is not None:
        with atomic(Path(path)) as temporary:
            sheet.save(temporary, format="PNG")
    return sheet


def _row(clip: Clip, columns: int, height: int) -> Image.Image:
    chosen = np.unique(np.linspace(0, len(clip) - 1, columns).round().astype(int))
    frames = clip.to_uint8()[chosen]
    h, w = frames.shape[1:3]
    if h < height:
        height = h * round(height / h)
        method = Image.Resampling.NEAREST
    else:
        method = Image.Resampling.LANCZOS
    size = (max(round(w * height / h), 1), height)
    return grid(np.stack([np.asarray(Image.fromarray(f).resize(size, method)) for f in frames]), len(frames))
