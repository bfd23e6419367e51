"""The playground as data: drawn on the fly, or written as a TFDS dataset in ArrayRecord, without TensorFlow.

Element i of a source with seed s is the scene of seed s * 2^32 + i: other seeds share no scene.
"""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from sora_jax.data.playground.captions import Style, caption
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import Scene, draw_scene
from sora_jax.data.playground.splits import Split

__all__ = ["Playground", "PlaygroundSource", "build"]

_SEED_STRIDE = 2**32
# What the playground's denoiser learns last (docs/playground.md).
_HARD: tuple[dict[str, Any], ...] = ({"motion": "spins"}, {"motion": "circles around"}, {"objects": 2})


@dataclass(frozen=True)
class PlaygroundSource:
    """Clips drawn when they are asked for: a random-access source for Grain.

    An element is {"video": uint8[t, h, w, 3], "caption": str, "index": int}. For another caption (say, one each
    epoch) ask `caption(source.scene_of(index), seed)`.

    Fields: `count` elements; `seed` (0 <= seed < 2^31) keeps sources apart; `split` and `constraints` (pairs
    of name and value) as for `draw_scene`; `style` of the captions; size, frames and rate as for `render`.
    """

    count: int
    _: KW_ONLY
    seed: int = 0
    split: Split = "train"
    style: Style = "any"
    height: int = 64
    width: int = 64
    frames: int = 17
    fps: float = 8.0
    constraints: tuple[tuple[str, Any], ...] = ()
    hard: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.count <= _SEED_STRIDE:
            raise ValueError(f"count {self.count} is not in 1 to {_SEED_STRIDE}: ask for at least one clip.")
        if not 0 <= self.seed < 2**31:
            raise ValueError(f"seed {self.seed} is not in 0 to {2**31 - 1}: choose a smaller whole number.")
        if not 0 <= self.hard <= 1:
            raise ValueError(f"hard is {self.hard}: a share of the scenes lies between 0 and 1.")

    def __len__(self) -> int:
        return self.count

    def scene_of(self, index: int) -> Scene:
        """The scene of an element. Raises IndexError outside 0 <= index < count."""
        index = operator.index(index)
        if not 0 <= index < self.count:
            raise IndexError(f"index {index} is not in 0 to {self.count - 1}.")
        before, after = int(index * self.hard), int((index + 1) * self.hard)
        hard = _HARD[before % len(_HARD)] if after > before else {}
        want = {**hard, **dict(self.constraints)}
        return draw_scene(self.seed * _SEED_STRIDE + index, split=self.split, **want)

    def video_of(self, scene: Scene) -> np.ndarray:
        """A scene's clip at this source's size and rate, uint8[t, h, w, 3]."""
        return render(scene, height=self.height, width=self.width, frames=self.frames, fps=self.fps)

    def __getitem__(self, record_key: int) -> dict[str, Any]:
        scene = self.scene_of(record_key)
        return {
            "video": self.video_of(scene),
            "caption": caption(scene, 0, self.style),
            "index": int(record_key),
        }


class Playground(tfds.core.GeneratorBasedBuilder):
    """The TFDS builder: one dataset split per source."""

    VERSION = tfds.core.Version("1.0.0")
    # Nothing is downloaded: no checksums beside the code to look for (which would need one more package).
    code_path = None  # type: ignore[assignment]
    RELEASE_NOTES = {"1.0.0": "The world's first draw."}  # noqa: RUF012 - TFDS reads a plain dict

    def __init__(self, *, sources: Mapping[str, PlaygroundSource], **kwargs: Any):
        self._sources = dict(sources)
        super().__init__(**kwargs)

    def _info(self) -> tfds.core.DatasetInfo:
        one = next(iter(self._sources.values()))
        # `dataset_info_from_configs` looks for files beside an importable module; this needs none.
        return tfds.core.DatasetInfo(
            builder=self,
            description="Moving shapes with captions, drawn from integers.",
            features=tfds.features.FeaturesDict(
                {
                    "video": tfds.features.Tensor(
                        shape=(one.frames, one.height, one.width, 3), dtype=np.uint8
                    ),
                    "caption": tfds.features.Text(),
                    "caption_long": tfds.features.Text(),
                    "index": tfds.features.Scalar(dtype=np.int64),
                    "seed": tfds.features.Scalar(dtype=np.int64),
                }
            ),
            disable_shuffling=True,
        )

    def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[tuple[int, dict[str, Any]]]]:
        del dl_manager
        return {name: self._generate_examples(source) for name, source in self._sources.items()}

    def _generate_examples(self, source: PlaygroundSource) -> Iterator[tuple[int, dict[str, Any]]]:
        for index in range(len(source)):
            scene = source.scene_of(index)
            yield (
                index,
                {
                    "video": source.video_of(scene),
                    "caption": caption(scene, 0, "short"),
                    "caption_long": caption(scene, 0, "long"),
                    "index": index,
                    "seed": scene.seed,
                },
            )


def build(
    path: str | Path,
    count: int | Mapping[Split, int],
    split: Split = "train",
    *,
    seed: int = 0,
    **options: Any,
) -> Path:
    """Writes playground clips as ArrayRecord and returns the folder for `tfds.builder_from_directory`.

    Args:
        path: the folder to put the dataset in; a dataset already there is kept and returned as it is.
        count: the number of clips of `split`, or of each of several splits.
        split: "train", "held_out" or "all"; the dataset's own name for "all" is "every", as TFDS keeps "all".
        seed: as for `PlaygroundSource`; `options` are its other fields (height, frames, constraints, ...).

    Elements have `video` uint8[t, h, w, 3], `caption` (short), `caption_long`, `index` and
    the scene's `seed`. Nothing half-written is left in the folder's final place when this is interrupted.
    """
    counts: Mapping[Split, int] = {split: count} if isinstance(count, int) else count
    sources = {
        "every" if name == "all" else name: PlaygroundSource(count=n, seed=seed, split=name, **options)
        for name, n in counts.items()
    }
    if not sources:
        raise ValueError("count is empty: name at least one split and its number of clips.")
    builder = Playground(sources=sources, data_dir=str(path), file_format="array_record")
    with tempfile.TemporaryDirectory() as unused:
        builder.download_and_prepare(download_dir=unused)
    return Path(str(builder.data_dir))
