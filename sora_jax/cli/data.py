"""Turns clips and captions into a dataset to train on.

sora-jax data folder clips --out datasets/clips --size 64x64 --fps 8 --frames 17

sora-jax data playground --out datasets/playground --count 10000
"""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

__all__ = ["Args", "Folder", "Playground", "run"]

SKIPPED_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Folder:
    """A folder of mp4, webm, gif, webp or mov files becomes a dataset.

    Captions stand beside them: name.txt (a caption a line), or one captions.jsonl or captions.csv with a "file" and
    a "caption". Files that can't be used are listed and left out.

    sora-jax data folder clips --out datasets/clips --size 64x64 --fps 8 --frames 17 --test-fraction 0.1
    """

    folder: tyro.conf.Positional[Path]
    """The folder that holds the clips, at any depth."""
    out: Path
    """The dataset to make; it must not exist yet."""
    size: str = "64x64"
    """WIDTHxHEIGHT in pixels. The aspect is kept by cropping the sides."""
    fps: float = 8.0
    """Frames a second; others of the clip are left out, or repeated."""
    frames: int = 17
    """Frames of each example; the playground's VAE takes 1, 5, 9, 13, 17, ..."""
    background: str = "black"
    """The colour laid under transparent pixels, by name or as #rrggbb."""
    short: Literal["skip", "freeze", "loop"] = "skip"
    """Clips with too few frames: leave them out, hold their last frame, or play them again."""
    take: Literal["first", "all"] = "first"
    """Of longer clips: their beginning, or all windows that fit end to end."""
    test_fraction: float = 0.0
    """The share of clips, by groups, kept apart in the split "test"."""
    group_by: str | None = None
    """What tells the groups: a column of the captions table, or a regular expression searched in the file's name,
    whose first bracket is the group. By default the column "group"; else each file is its own."""


@dataclass(frozen=True, kw_only=True)
class Playground:
    """Scenes of the playground world are drawn and written as a dataset.

    sora-jax data playground --out datasets/playground --count 10000
    """

    out: Path
    """The folder to put the dataset in."""
    count: int = 10_000
    """How many clips."""
    split: Literal["train", "held_out", "all"] = "train"
    """Scenes of the training pairs, only of the pairs held out, or any."""
    size: str = "64x64"
    """WIDTHxHEIGHT in pixels."""
    fps: float = 8.0
    """Frames a second."""
    frames: int = 17
    """Frames of each clip."""
    seed: int = 0
    """Another seed draws other scenes."""


Args = (
    Annotated[Folder, tyro.conf.subcommand("folder", prefix_name=False)]
    | Annotated[Playground, tyro.conf.subcommand("playground", prefix_name=False)]
)


def run(args: Folder | Playground) -> int:
    """Writes the dataset and says where it is and what was left out."""
    return _folder(args) if isinstance(args, Folder) else _playground(args)


def _size(text: str) -> tuple[int, int]:
    """(height, width) from WIDTHxHEIGHT."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text.strip().lower())
    if match is None or min(int(match[1]), int(match[2])) < 1:
        raise ValueError(f"size {text!r} is not WIDTHxHEIGHT in pixels: write it as in 64x64")
    return int(match[2]), int(match[1])


def _folder(args: Folder) -> int:
    from sora_jax.data.folder_builder import FolderConfig, build, describe

    height, width = _size(args.size)
    config = FolderConfig(
        height=height,
        width=width,
        frames=args.frames,
        fps=args.fps,
        background=args.background,
        short=args.short,
        take=args.take,
        test_fraction=args.test_fraction,
        group_by=args.group_by,
    )
    report = build(args.folder, args.out, config, progress=_bar)
    for sentence in report.skipped[:SKIPPED_SHOWN]:
        print(f"left out: {sentence}", file=sys.stderr)
    if len(report.skipped) > SKIPPED_SHOWN:
        print(f"left out: {len(report.skipped) - SKIPPED_SHOWN} more like these", file=sys.stderr)
    print(describe(report, config))
    return 0


def _bar(files: Iterable[Any], count: int) -> Iterable[Any]:
    from rich.console import Console
    from rich.progress import track

    if not count:
        return []
    return track(files, "clips", total=count, console=Console(stderr=True), transient=True)


def _playground(args: Playground) -> int:
    from sora_jax.data.playground.builder import build

    if args.count < 1:
        raise ValueError(f"count is {args.count}, but a dataset needs at least 1 clip")
    height, width = _size(args.size)
    print(
        build(
            args.out,
            args.count,
            args.split,
            seed=args.seed,
            height=height,
            width=width,
            frames=args.frames,
            fps=args.fps,
        )
    )
    return 0
