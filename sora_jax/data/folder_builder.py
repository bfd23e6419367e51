"""Any folder of captioned clips as a TFDS dataset in ArrayRecord, without TensorFlow."""

import hashlib
import io
import itertools
import os
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow_datasets as tfds

from sora_jax.data.folder_captions import Captioned, find_clips
from sora_jax.media import Clip, Limits, contact_sheet, read, rgb

__all__ = ["FolderConfig", "Report", "build", "describe"]

PREVIEWED = 12
Progress = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True, kw_only=True)
class FolderConfig:
    """What every clip of the dataset is brought to, and which clips are kept apart."""

    height: int = 64
    width: int = 64
    frames: int = 17
    fps: float = 8.0
    background: str = "black"
    """Colour laid under transparent pixels."""
    short: Literal["skip", "freeze", "loop"] = "skip"
    """What becomes of clips with too few frames: left out, their last frame held, or played again."""
    take: Literal["first", "all"] = "first"
    """Of longer clips: their beginning, or as many windows as fit end to end."""
    test_fraction: float = 0.0
    """Share of the groups that goes to the split `test`, in [0, 1)."""
    group_by: str | None = None
    """See `find_clips`."""
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        for name in ("height", "width", "frames"):
            if not 1 <= getattr(self, name) <= 8192:
                raise ValueError(f"{name} is {getattr(self, name)}, but has to be between 1 and 8192")
        if not 0 < self.fps <= 1000:
            raise ValueError(f"fps is {self.fps}, but has to be above 0 and at most 1000")
        rgb(self.background)
        if not 0 <= self.test_fraction < 1:
            raise ValueError(
                f"the test fraction is {self.test_fraction}, but has to be at least 0 and below 1"
            )


@dataclass(frozen=True, kw_only=True)
class Report:
    """What `build` did: clips written per split, and a sentence for each file left out."""

    path: Path
    counts: dict[str, int]
    skipped: list[str]


class FolderDataset(tfds.core.GeneratorBasedBuilder):
    """Writes examples that are made elsewhere; `splits` maps each split to an iterator of (key, example)."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded, so there are no checksums beside the code to look for.
    code_path = None  # type: ignore[assignment]
    name = "folder"

    def __init__(self, *, splits: dict[str, Iterator[Any]], config_: FolderConfig, **kwargs: Any):
        self._splits, self._config = splits, config_
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        one = self._config
        # Packed bytes read eight times as fast as TFDS's default, a list of numbers; ArrayRecord packs them.
        video = tfds.features.Tensor(
            shape=(one.frames, one.height, one.width, 3),
            dtype=np.uint8,
            encoding=tfds.features.Encoding.BYTES,
        )
        text = tfds.features.Text()
        features = {"video": video, "caption": text, "captions": tfds.features.Sequence(text), "name": text}
        return tfds.core.DatasetInfo(
            builder=self,
            description="Captioned clips from a folder.",
            features=tfds.features.FeaturesDict(features),
            metadata=tfds.core.MetadataDict(fps=one.fps),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Any]:
        del dl_manager
        return dict(self._splits)

    def _generate_examples(self, **_: Any) -> Iterator[Any]:
        raise NotImplementedError("the splits come with the constructor")


def build(
    folder: str | Path,
    out: str | Path,
    config: FolderConfig | None = None,
    *,
    progress: Progress | None = None,
    workers: int = 2,
) -> Report:
    """Turns the clips under `folder` into a dataset at `out`, for `FolderSource`.

    An example has `video` uint8 [frames, height, width, 3], `caption` (the first), `captions` (all) and
    `name` (path in the folder, with #i for the i-th window). `out`/preview.png shows some of the clips.
    Files that can't be used are left out and listed in the report.

    Raises ValueError where no usable clip is left, OSError where `out` exists or can't be written to. The
    dataset appears whole or not at all.
    """
    folder, out, config = Path(folder), Path(out), config or FolderConfig()
    _check_out(out)
    clips, skipped = find_clips(folder, config.group_by)
    kept_apart = _test_groups({clip.group for clip in clips}, config.test_fraction)
    sides = {
        "train": [clip for clip in clips if clip.group not in kept_apart],
        "test": [clip for clip in clips if clip.group in kept_apart],
    }
    counts: dict[str, int] = {}
    previews: dict[str, list[tuple[str, np.ndarray]]] = {}
    temporary = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        with ThreadPoolExecutor(workers) as pool:
            splits = {}
            for split, files in sides.items():
                made = _examples(pool, files, config, skipped, progress, workers)
                counted = _count(split, made, counts, previews)
                # TFDS can't write an empty split, so the first example decides whether there is one.
                if (first := next(counted, None)) is not None:
                    splits[split] = itertools.chain([first], counted)
            if "train" not in splits:
                raise ValueError(_nothing_left(folder, skipped))
            builder = FolderDataset(
                splits=splits, config_=config, data_dir=str(temporary), file_format="array_record"
            )
            with _quiet():
                builder.download_and_prepare()
        made_at = Path(str(builder.data_dir))
        _preview(made_at / "preview.png", previews, config.fps)
        os.replace(made_at, out)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return Report(path=out, counts=counts, skipped=skipped)


def _check_out(out: Path) -> None:
    if out.is_dir() and not any(out.iterdir()):
        return
    if out.exists():
        raise FileExistsError(f"{out} exists already: remove it, or name another place for the dataset")
    if not out.parent.is_dir():
        raise FileNotFoundError(f"the folder {out.parent} does not exist: create it, or write somewhere else")
    if not os.access(out.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"the folder {out.parent} cannot be written to: choose another place")


def _test_groups(groups: set[str], fraction: float) -> set[str]:
    """A share of the groups that stays the same whatever other files come and go around them."""
    count = round(fraction * len(groups))
    if fraction > 0:
        count = min(max(count, 1), len(groups) - 1)
    return set(sorted(groups, key=lambda group: hashlib.sha256(group.encode()).digest())[: max(count, 0)])


def _nothing_left(folder: Path, skipped: Sequence[str]) -> str:
    first = f"; the first: {skipped[0]}" if skipped else ""
    return f"no clip of {folder} can be used for training ({len(skipped)} left out{first})"


def _examples(
    pool: ThreadPoolExecutor,
    files: Sequence[Captioned],
    config: FolderConfig,
    skipped: list[str],
    progress: Progress | None,
    ahead: int,
) -> Iterator[dict[str, Any]]:
    """Examples in the files' order, a few of them decoded ahead."""

    def windows(file: Captioned) -> list[np.ndarray] | str:
        try:
            return _windows(file, config)
        except (ValueError, OSError, MemoryError) as error:
            return str(error).replace(str(file.path), file.name)

    waiting: list[tuple[Captioned, Future[list[np.ndarray] | str]]] = []
    for file in progress(files, len(files)) if progress else files:
        waiting.append((file, pool.submit(windows, file)))
        if len(waiting) > ahead:
            first, future = waiting.pop(0)
            yield from _named(first, future, skipped)
    for file, future in waiting:
        yield from _named(file, future, skipped)


def _named(file: Captioned, future: Any, skipped: list[str]) -> Iterator[dict[str, Any]]:
    result = future.result()
    if isinstance(result, str):
        skipped.append(result)
        return
    captions = list(file.captions)
    for index, video in enumerate(result):
        name = file.name if len(result) == 1 else f"{file.name}#{index}"
        yield {"video": video, "caption": captions[0], "captions": captions, "name": name}


def _windows(file: Captioned, config: FolderConfig) -> list[np.ndarray]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sound is expected in a folder of videos
        clip = read(
            file.path,
            size=(config.height, config.width),
            fps=config.fps,
            max_frames=config.frames if config.take == "first" else None,
            background=config.background,
            limits=config.limits,
        )
    frames, need = clip.to_uint8(), config.frames
    if len(frames) < need:
        if config.short == "skip":
            raise ValueError(
                f"{file.name} has {len(frames)} frames at {config.fps:g} fps where {need} are asked for: "
                "ask for fewer, or freeze or loop short clips"
            )
        index = np.arange(need)
        frames = frames[index % len(frames) if config.short == "loop" else np.minimum(index, len(frames) - 1)]
    return [frames[start : start + need] for start in range(0, len(frames) - need + 1, need)]


def _count(
    split: str,
    examples: Iterator[dict[str, Any]],
    counts: dict[str, int],
    previews: dict[str, list[tuple[str, np.ndarray]]],
) -> Iterator[tuple[int, dict[str, Any]]]:
    for index, example in enumerate(examples):
        counts[split] = index + 1
        chosen = previews.setdefault(split, [])
        # The clips at powers of two: spread out, without knowing how many will come.
        if index & (index + 1) == 0 and len(chosen) < PREVIEWED:
            chosen.append((f"{split}: {example['caption']}", example["video"]))
        yield index, example


def _preview(path: Path, previews: dict[str, list[tuple[str, np.ndarray]]], fps: float) -> None:
    rows = [row for chosen in previews.values() for row in chosen]
    contact_sheet([Clip.from_uint8(video, fps) for _, video in rows], [label for label, _ in rows], 9, path)


@contextmanager
def _quiet() -> Iterator[None]:
    """TFDS's progress bars and notes on the way to a temporary folder off: the folder's own say more."""
    tfds.disable_progress_bar()
    try:
        with redirect_stdout(io.StringIO()):
            yield
    finally:
        tfds.enable_progress_bar()


def describe(report: Report, config: FolderConfig) -> str:
    """One line about what was written."""
    counts = ", ".join(f"{count} {split}" for split, count in report.counts.items())
    seconds = config.frames / config.fps
    return (
        f"{report.path}: {counts} clips of {config.frames} frames, {config.width}x{config.height}, "
        f"{config.fps:g} fps ({seconds:g} s)"
        + (f"; {len(report.skipped)} left out" if report.skipped else "")
    )
