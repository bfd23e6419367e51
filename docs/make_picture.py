"""Makes docs/world.gif, the README's moving picture: clips of the playground under their captions.

python docs/make_picture.py
"""

import textwrap
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import sora_jax as sora
from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import draw_scene

SEEDS = (1, 18, 9, 15, 24, 39)
SIDE, GAP, LINES, FPS = 160, 12, 58, 8.0


def main() -> None:
    scenes = [draw_scene(seed) for seed in SEEDS]
    clips = [render(scene, height=SIDE, width=SIDE, fps=FPS) for scene in scenes]
    font = ImageFont.load_default(13)
    width, height = 3 * (SIDE + GAP) + GAP, 2 * (SIDE + LINES + GAP)
    pages = []
    for t in range(len(clips[0])):
        page = Image.new("RGB", (width, height), "white")
        draw = ImageDraw.Draw(page)
        for i, (scene, clip) in enumerate(zip(scenes, clips, strict=True)):
            x, y = GAP + i % 3 * (SIDE + GAP), i // 3 * (SIDE + LINES + GAP)
            words = textwrap.wrap(caption(scene, 0, "short"), 24)[:3]
            draw.multiline_text((x, y + 6), "\n".join(words), "black", font, spacing=3)
            page.paste(Image.fromarray(clip[t]), (x, y + LINES))
        pages.append(np.asarray(page))
    sora.Clip.from_uint8(np.stack(pages), FPS).save(Path(__file__).parent / "world.gif")


if __name__ == "__main__":
    main()
