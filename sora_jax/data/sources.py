"""Which clips a run reads: the playground, drawn on the fly, or a dataset on disk."""

import dataclasses
import functools
from typing import Any, Literal

import numpy as np

from sora_jax.data.pipeline import RandomMap, Source


@dataclasses.dataclass(frozen=True, kw_only=True)
class DataConfig:
    path: str | None = None
    """A folder made by `sora-jax data`; none draws playground scenes as they are needed."""
    split: Literal["train", "test", "held_out", "all"] = "train"
    count: int = 1_000_000
    """How many playground scenes there are (each is drawn from its own number)."""
    seed: int = 0
    """Another draws other playground scenes, none of them the same."""
    hard: float = 0.0
    """Of the playground's scenes, so many have what is learnt last: an object that spins or circles, two objects."""
    height: int = 64
    width: int = 64
    frames: int = 17
    fps: float = 8.0
    keep_in_memory: bool = False
    """Whether a clip, once read or drawn, is kept for the epochs to come."""

    def __post_init__(self):
        if min(self.count, self.height, self.width, self.frames) < 1 or self.fps <= 0:
            raise ValueError("data: count, height, width, frames and fps are positive.")


class InMemory:
    """A source that reads each example of another one once."""

    def __init__(self, source: Source):
        self.source = source
        self._kept: dict[int, dict[str, Any]] = {}

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if index not in self._kept:
            self._kept[index] = self.source[index]
        return self._kept[index]


def open_source(config: DataConfig) -> Source:
    """The clips that `config` names. ValueError if there is no dataset at `config.path`."""
    source = _open(config)
    return InMemory(source) if config.keep_in_memory else source


def _open(config: DataConfig) -> Source:
    if config.path is None:
        from sora_jax.data.playground.builder import PlaygroundSource

        if config.split == "test":
            raise ValueError("the playground has no split test: choose train, held_out or all.")
        return PlaygroundSource(
            config.count,
            seed=config.seed,
            split=config.split,
            hard=config.hard,
            height=config.height,
            width=config.width,
            frames=config.frames,
            fps=config.fps,
        )
    from sora_jax.data.folder import FolderSource

    return FolderSource(config.path, config.split)


def kept_apart(config: DataConfig) -> DataConfig | None:
    """The clips of a dataset that no run trains on, its test split; None where it has none, or was all trained on."""
    from sora_jax.data.folder import splits_of

    if config.path is None or config.split != "train" or "test" not in splits_of(config.path):
        return None
    return dataclasses.replace(config, split="test", keep_in_memory=False)


class FirstFrames:
    """The clips of a source as images: clips of one frame."""

    def __init__(self, source: Source):
        self._source = source

    def __len__(self) -> int:
        return len(self._source)

    def __getitem__(self, index: int) -> dict[str, Any]:
        example = self._source[index]
        return {**example, "video": example["video"][:1]}


def open_resized(config: DataConfig, other: DataConfig) -> Source:
    """The clips of `config` in the size, length and number of `other`. Playground scenes are drawn so; of a dataset on
    disk there are only the first frames, an image for each clip. ValueError for another size of those."""
    if config == other:
        return open_source(config)
    if config.path is None:
        return _open(other)
    if (other.frames, other.height, other.width) != (1, config.height, config.width):
        raise ValueError(
            f"{config.path} has clips of {config.width}x{config.height}: beside them a run takes images of that size."
        )
    return FirstFrames(_open(config))


def caption_map(source: Source) -> RandomMap:
    """Gives an example one of the captions of the clip at its `index`, drawn anew each epoch: for a playground scene
    short or long, for a dataset on disk one of those that were written down."""
    if isinstance(source, InMemory):
        return caption_map(source.source)
    scene_of = getattr(source, "scene_of", None)
    if scene_of is None:
        captions = functools.cache(getattr(source, "captions", lambda index: (source[index]["caption"],)))

        def choose(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
            texts = captions(example["index"])
            return {**example, "caption": texts[int(rng.integers(len(texts)))]}

        return choose
    from sora_jax.data.playground.captions import caption

    scene = functools.cache(scene_of)

    def write(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        return {**example, "caption": caption(scene(example["index"]), int(rng.integers(2**31)), "any")}

    return write
