"""A dataset of captioned clips on disk as a random-access source for Grain."""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

__all__ = ["FolderSource"]


def splits_of(path: str | Path) -> set[str]:
    """The names of the splits of a dataset. Raises ValueError for a folder that holds none."""
    return set(_builder_of(path).info.splits)


def _builder_of(path: str | Path) -> Any:
    if not (Path(path) / "dataset_info.json").is_file():
        raise ValueError(f"{path} holds no dataset: make one with `sora-jax data folder CLIPS --out {path}`")
    return tfds.builder_from_directory(str(path))


class FolderSource:
    """Clips of one split of a dataset written by `sora-jax data` (or any TFDS one with `video` and `caption`).

    An element is {"video": uint8[t, h, w, 3], "caption": str, "index": int}; `captions(index)` gives all captions of
    a clip, `name(index)` where it came from, `fps` the frames per second (None where the dataset doesn't say).

    Raises ValueError for a folder that holds no such dataset, or for a split it doesn't have.
    """

    def __init__(self, path: str | Path, split: str = "train"):
        self.path, self.split = Path(path), split
        builder = _builder_of(path)
        features, splits = set(builder.info.features), builder.info.splits
        if "video" not in features or not {"caption", "captions"} & features:
            raise ValueError(
                f"{path} is a dataset of {', '.join(sorted(features))}, but clips need a video and a caption"
            )
        # TFDS takes "all" to mean every split, one after another.
        if split != "all" and split not in splits:
            raise ValueError(f"{path} has no split {split!r}: it has {', '.join(sorted(splits))}")
        metadata = builder.info.metadata or {}
        self.fps: float | None = metadata.get("fps") if isinstance(metadata, dict) else None
        self._names = sorted(splits, reverse=True) if split == "all" else [split]
        self._count = sum(splits[name].num_examples for name in self._names)
        self._builder = builder

    @cached_property
    def _parts(self) -> list[Any]:
        return [self._builder.as_data_source(split=name) for name in self._names]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        record = self._at(index)
        texts = _captions(record)
        return {"video": np.asarray(record["video"]), "caption": texts[0], "index": int(index)}

    def captions(self, index: int) -> tuple[str, ...]:
        """All captions of a clip, the main one first."""
        return _captions(self._at(index))

    def name(self, index: int) -> str:
        """The file that a clip came from."""
        return _text(self._at(index).get("name", b""))

    def _at(self, index: int) -> dict[str, Any]:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside the {len(self)} clips of {self.path}")
        for part in self._parts:
            if index < len(part):
                return part[int(index)]
            index -= len(part)
        raise AssertionError("splits are shorter than they say")

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "split": self.split}  # open files don't travel to other processes

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)

    def __repr__(self) -> str:
        return f"FolderSource({str(self.path)!r}, {self.split!r}, {len(self)} clips)"


def _captions(record: dict[str, Any]) -> tuple[str, ...]:
    several = [_text(text) for text in record.get("captions", ())]
    one = [_text(record[name]) for name in ("caption", "caption_long") if name in record]
    return tuple(dict.fromkeys(one + several)) or ("",)


def _text(value: Any) -> str:
    return value.decode("utf-8") if isinstance(value, bytes) else str(value)
