"""Makes the moving pictures of the README and of docs/studio.md with the shipped model.

python docs/make_pictures.py [playground extend loop ...]
"""

import sys
import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import sora_jax as sora
from sora_jax.studio.sample import Script, read_sample

PROMPTS = (
    "a red circle moves right",
    "a blue star spins",
    "a yellow ring bounces",
    "a green heart grows",
    "a white square circles around",
    "a purple triangle moves up",
    "a cyan circle moves left behind a gray wall",
    "an orange square moves down and a blue ring stays still",
)
DOCS = Path(__file__).parent
STUDIO = sorted(
    path
    for path in (DOCS.parent / "experiments" / "sample").glob("playground_*.py")
    if isinstance(read_sample(path)[0], Script)
)
HEIGHT, GAP, LINES = 112, 12, 46
LARGEST = 300_000
"""Bytes of a picture of the studio, which is drawn smaller where it would be over it."""


def draw(
    clips: dict[str, sora.Clip], path: Path, columns: int, height: int = HEIGHT, largest: int | None = None
) -> None:
    """The clips side by side under their names, as one GIF; a clip that ends early waits on its last frame."""
    font = ImageFont.load_default(13)
    shown = {name: clip.to_uint8() for name, clip in clips.items()}
    cell = max(round(height * frames.shape[2] / frames.shape[1]) for frames in shown.values())
    rows = -(-len(shown) // columns)
    pages = []
    for t in range(max(map(len, shown.values()))):
        page = Image.new("RGB", (columns * (cell + GAP) + GAP, rows * (height + LINES + GAP)), "white")
        ink = ImageDraw.Draw(page)
        for i, (name, frames) in enumerate(shown.items()):
            x, y = GAP + i % columns * (cell + GAP), i // columns * (height + LINES + GAP)
            ink.multiline_text(
                (x, y + 6), "\n".join(textwrap.wrap(name, cell // 6)[:2]), "black", font, spacing=3
            )
            frame = Image.fromarray(frames[min(t, len(frames) - 1)])
            width = round(height * frame.width / frame.height)
            page.paste(frame.resize((width, height), Image.Resampling.BICUBIC), (x, y + LINES))
        pages.append(np.asarray(page))
    path.parent.mkdir(exist_ok=True)
    sora.Clip.from_uint8(np.stack(pages), next(iter(clips.values())).fps).save(path)
    if largest and path.stat().st_size > largest and height > HEIGHT // 2:
        draw(clips, path, columns, height * 7 // 8, largest)
    else:
        print(path)


def main(names: list[str]) -> None:
    pipeline = sora.load("playground")
    if not names or "playground" in names:
        clips = pipeline.generate(PROMPTS)
        draw(dict(zip(PROMPTS, clips, strict=True)), DOCS / "playground.gif", columns=4)
    for path in STUDIO:
        name = path.stem.removeprefix("playground_")
        if not names or name in names:
            script, _ = read_sample(path)
            assert isinstance(script, Script)
            clips = script.make(pipeline, script.seed)
            draw(clips, DOCS / "studio" / f"{name}.gif", columns=min(len(clips), 4), largest=LARGEST)


if __name__ == "__main__":
    main(sys.argv[1:])
