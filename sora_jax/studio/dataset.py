"""Labelled clips in bulk: prompts in, a folder of clips with their captions out, that goes on where it was stopped.

Clip i shows prompt i mod p of p prompts from the noise of seed + i, whatever batch it is in. A clip's file is there
whole or not at all, so what is missing is what remains to be made; its caption is written after it.
"""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.progress import Report

__all__ = ["make_dataset", "read_prompts"]

LARGEST = 1 << 28
"""Bytes of a file of prompts."""


def read_prompts(path: Path) -> list[str]:
    """The prompts of a .jsonl file, an object with "prompt" a line, or of a text file, one a line.

    Raises ValueError for a line that is neither, naming it.
    """
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is over {LARGEST >> 20} MiB: split it.")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} isn't UTF-8 text: save it as such.") from None
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if path.suffix == ".jsonl":
            try:
                found = json.loads(line)
            except (json.JSONDecodeError, RecursionError) as error:
                raise ValueError(f"{path} line {number} isn't JSON ({error}).") from None
            line = found.get("prompt") if isinstance(found, dict) else None
            if not isinstance(line, str) or not line.strip():
                raise ValueError(
                    f'{path} line {number} has no "prompt": write {{"prompt": "a red circle spins"}}.'
                )
        prompts.append(line.strip())
    if not prompts:
        raise ValueError(f"{path} holds no prompts: write one a line.")
    return prompts


def make_dataset(
    pipeline: Pipeline,
    prompts: Sequence[str],
    folder: Path,
    *,
    count: int,
    seed: int = 0,
    batch: int = 16,
    report: Report = lambda done, total: None,
    **options: Any,
) -> Path:
    """Makes the clips that `folder` lacks of `count` (mp4), and `captions.jsonl` beside them, which it returns.

    After each batch the captions of what is there by then are written.
    A dataset to train on comes of it by `sora-jax data folder FOLDER`. `options` are as of `Pipeline.generate`.

    Raises ValueError where the folder holds a dataset of other prompts, of another model or of other options.
    """
    if count < 1 or batch < 1:
        raise ValueError(f"count is {count} and batch is {batch}: both must be at least 1.")
    words = hashlib.sha256("\n".join(prompts).encode()).hexdigest()
    said = {name: value for name, value in options.items() if value is not None}
    model = {name: value for name, value in pipeline.about().items() if name != "software"}
    about = {**model, "prompts_sha256": words, "seed": seed, **said}
    folder.mkdir(parents=True, exist_ok=True)
    _same(folder / "dataset.json", json.loads(json.dumps(about)))

    def file(i: int) -> Path:
        return folder / f"{i:08d}.mp4"

    def lines(rows: Iterable[int]) -> str:
        found = ({"file": file(i).name, "caption": prompts[i % len(prompts)], "seed": seed + i} for i in rows)
        return "".join(json.dumps(row) + "\n" for row in found)

    captions = folder / "captions.jsonl"
    missing = [i for i in range(count) if not file(i).exists()]
    _write(captions, lines(sorted(set(range(count)) - set(missing))))
    report(count - len(missing), count)
    for first in range(0, len(missing), batch):
        rows = missing[first : first + batch]
        clips = pipeline.generate(
            [prompts[i % len(prompts)] for i in rows],
            seed=[seed + i for i in rows],
            progress=False,
            **options,
        )
        for i, clip in zip(rows, clips, strict=True):
            clip.save(file(i))
        with captions.open("a", encoding="utf-8") as table:
            table.write(lines(rows))
        report(count - len(missing) + first + len(rows), count)
    return _write(captions, lines(range(count)))


def _same(path: Path, about: dict[str, Any]) -> None:
    """Writes what the dataset is made of, or compares it with what is written."""
    if not path.exists():
        _write(path, json.dumps(about, indent=2) + "\n")
        return
    found = json.loads(path.read_text())
    if other := sorted(name for name in found.keys() | about.keys() if found.get(name) != about.get(name)):
        raise ValueError(
            f"{path.parent} holds a dataset made with another {', '.join(other)}: give the same, or another folder."
        )


def _write(path: Path, text: str) -> Path:
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
    return path
