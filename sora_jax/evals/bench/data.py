"""The input pipeline alone: examples a second of each kind of data, through the same iterator that training reads."""

import dataclasses
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.data.pipeline import batches, crop
from sora_jax.data.sources import DataConfig, open_source
from sora_jax.evals.bench.record import Measure
from sora_jax.evals.bench.timing import Effort, measured, timed
from sora_jax.evals.bench.train import captioned_latents
from sora_jax.media import Clip
from sora_jax.models.config import MODELS

__all__ = ["KINDS", "measure"]

CLIPS = 16
"""In the folder that is made where none is given."""


def _dataset(folder: Path, data: DataConfig) -> Path:
    """A dataset of a few playground clips that went through MP4 files."""
    from sora_jax.data.folder_builder import FolderConfig, build

    source = open_source(dataclasses.replace(data, path=None, count=CLIPS))
    clips = folder / "clips"
    clips.mkdir()
    for i in range(CLIPS):
        example = source[i]
        Clip.from_uint8(example["video"], data.fps).save(clips / f"{i}.mp4")
        (clips / f"{i}.txt").write_text(example["caption"])
    config = FolderConfig(height=data.height, width=data.width, fps=data.fps, frames=data.frames)
    return build(clips, folder / "dataset", config).path


def _playground(data: DataConfig, batch_size: int, folder: Path) -> Iterator[Any]:
    return batches(open_source(dataclasses.replace(data, path=None)), batch_size=batch_size, seed=0)


def _windows(data: DataConfig, batch_size: int, folder: Path) -> Iterator[Any]:
    side, frames = min(32, data.height, data.width), min(9, data.frames)
    source = open_source(dataclasses.replace(data, path=None))
    return batches(source, batch_size=batch_size, seed=0, random_maps=[crop(side, frames)])


def _folder(data: DataConfig, batch_size: int, folder: Path) -> Iterator[Any]:
    path = data.path or str(_dataset(folder, data))
    return batches(open_source(dataclasses.replace(data, path=path)), batch_size=batch_size, seed=0)


def _latents(data: DataConfig, batch_size: int, folder: Path) -> Iterator[Any]:
    model = MODELS["playground"]
    return captioned_latents(model, dataclasses.replace(data, path=None), batch_size, folder)


KINDS: dict[str, Callable[[DataConfig, int, Path], Iterator[Any]]] = {
    "playground": _playground,
    "windows": _windows,
    "folder": _folder,
    "latents": _latents,
}
"""Playground clips drawn as they are needed; windows of them, as a VAE's training cuts them; a dataset made of video
files; cached latents with captions as tokens, as a denoiser's training reads them."""


def measure(
    data: DataConfig, *, kinds: tuple[str, ...], batch_size: int, effort: Effort
) -> Iterator[Measure]:
    """A measure of each kind, of one batch."""
    for kind in kinds:
        with tempfile.TemporaryDirectory() as folder:
            feed = KINDS[kind](data, batch_size, Path(folder))
            first = next(feed)
            size = sum(np.asarray(leaf).nbytes for leaf in first.values() if not isinstance(leaf, str))
            seconds = timed(functools.partial(next, feed), effort)
            each = {"examples": batch_size, "bytes": size}
            yield measured("batch", kind, seconds=seconds, each=each)
