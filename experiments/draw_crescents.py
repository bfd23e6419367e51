"""Draws what the playground's LoRA learns: clips of a crescent, a shape that no other scene has, among ordinary ones.

    python experiments/draw_crescents.py --out crescents

Writes crescents/NUMBER.webp (lossless, 64x64, 17 frames at 8 a second) and NUMBER.txt beside it, a caption a line: a
folder such as `experiments/train/playground_lora.py`, or any other run that fine-tunes, takes. The ordinary scenes are
there so that what the model knows already isn't forgotten. The scenes are in no other training run, nor in an
evaluation.
"""

from dataclasses import dataclass
from pathlib import Path

import tyro

from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import draw_scene
from sora_jax.media import Clip

FIRST = 2**34
PHRASINGS = 6


@dataclass(frozen=True, kw_only=True)
class Args:
    out: Path
    """The folder to make; it must not hold anything yet."""
    count: int = 1_200
    """Clips in all."""
    ordinary: float = 0.5
    """The share of clips without a crescent, in [0, 1)."""
    size: int = 64
    """Pixels along a side."""
    frames: int = 17


def main(args: Args) -> None:
    if args.count < 1 or not 0 <= args.ordinary < 1:
        raise SystemExit(f"count is {args.count} and ordinary {args.ordinary}: at least 1, and in [0, 1).")
    if args.out.exists() and any(args.out.iterdir()):
        raise SystemExit(f"{args.out} holds something already: name another folder, or empty it.")
    args.out.mkdir(parents=True, exist_ok=True)
    ordinary = round(args.count * args.ordinary)
    for i in range(args.count):
        # Spread evenly, so that any part of the folder has its share of both.
        known = (i + 1) * ordinary // args.count > i * ordinary // args.count
        scene = draw_scene(FIRST + i) if known else draw_scene(FIRST + i, shape="crescent")
        texts = dict.fromkeys(caption(scene, phrasing) for phrasing in range(PHRASINGS))
        video = render(scene, height=args.size, width=args.size, frames=args.frames)
        Clip.from_uint8(video, 8.0).save(args.out / f"{i:05d}.webp")
        (args.out / f"{i:05d}.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    print(args.out)


if __name__ == "__main__":
    main(tyro.cli(Args, description=__doc__))
