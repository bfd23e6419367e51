"""A folder of clips and captions as latents and text features, bucketed by size, each encoded once and kept on disk.

The networks that encode come in as functions. Which clips there are is decided before anything is encoded: a file that
can't be used is named and left out, and the rest is always in the same order.
"""

import dataclasses
import hashlib
import json
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.data.buckets import Bucket, choose_bucket, make_buckets
from sora_jax.data.folder_captions import Captioned, find_clips
from sora_jax.data.latents import ItemCache
from sora_jax.media import Limits, read

__all__ = ["BucketSource", "ClipsConfig", "Prepared", "prepare"]

Progress = Callable[[Sequence[Any], str], Iterable[Any]]


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipsConfig:
    """A folder of clips to train on, and the sizes they are brought to."""

    folder: str
    """Videos at any depth, each with its captions: `name.txt`, or one `captions.jsonl` or `captions.csv`."""
    height: int = 480
    """With width and frames the size of the first bucket; all buckets make about as many tokens as this one."""
    width: int = 832
    frames: int = 81
    fps: float = 16.0
    aspects: tuple[str, ...] = ("16:9", "4:3", "1:1", "3:4", "9:16")
    """Width to height; a clip goes to the nearest and is cropped to it. Empty: the first bucket's alone."""
    lengths: tuple[int, ...] = ()
    """Frames of further buckets, for clips that are shorter; those that fill none are left out."""

    def __post_init__(self):
        if not self.folder:
            raise ValueError("clips: no folder is named: give the one that holds the clips and captions.")
        if not 0 < self.fps <= 1000:
            raise ValueError(f"clips: fps is {self.fps} and must be above 0 and at most 1000.")

    def buckets(self, temporal_factor: int, grid: int) -> tuple[Bucket, ...]:
        """The buckets for a network; see `make_buckets`."""
        return make_buckets(
            self.frames,
            self.height,
            self.width,
            aspects=self.aspects,
            lengths=self.lengths,
            temporal_factor=temporal_factor,
            grid=grid,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entry:
    """A clip that is trained on."""

    name: str
    captions: tuple[str, ...]
    bucket: Bucket
    key: str


class BucketSource:
    """The clips of one bucket: {"latents": float32 [t, h, w, c], "captions": tuple of str, "index": its name}."""

    def __init__(self, entries: Sequence[Entry], latents: ItemCache):
        self.bucket, self._entries, self._latents = entries[0].bucket, list(entries), latents

    def __len__(self) -> int:
        return len(self._entries)

    def __getitem__(self, record_key: int) -> dict[str, Any]:
        entry = self._entries[record_key]
        return {"latents": self._latents[entry.key], "captions": entry.captions, "index": entry.name}


@dataclasses.dataclass(frozen=True)
class Prepared:
    """What there is to train on, and a sentence for each file left out; `digest` is of the clips and their order."""

    sources: tuple[BucketSource, ...]
    text: ItemCache
    skipped: tuple[str, ...]
    digest: str

    def features(self, caption: str) -> np.ndarray:
        """The features of a caption's own tokens, float32 [n, d]."""
        return self.text[caption_key(caption)]


def caption_key(caption: str) -> str:
    """The name of a caption in the cache."""
    return hashlib.sha256(caption.encode()).hexdigest()[:32]


def prepare(
    config: ClipsConfig,
    cache: Path,
    *,
    temporal_factor: int,
    grid: int,
    encode: Callable[[np.ndarray], np.ndarray],
    encode_text: Callable[[str], np.ndarray],
    made_from: Mapping[str, str],
    progress: Progress = lambda items, label: items,
) -> Prepared:
    """Finds the clips, and encodes those and the captions that aren't in `cache` yet.

    Args:
        temporal_factor, grid: pixels of a latent frame in time, and of a token's side.
        encode: uint8 [1, t, h, w, 3] to latents [1, t', h', w', c].
        encode_text: a caption to the features of its tokens [n, d]; "" is encoded as well.
        made_from: the fingerprints of the networks, "vae" and "text"; ValueError where the cache was made with others.

    Raises ValueError where no usable clip is left, OSError where there is no folder.
    """
    buckets = config.buckets(temporal_factor, grid)
    latents = ItemCache(cache / "latents", {"vae": made_from["vae"], "fps": config.fps}, "latents")
    text = ItemCache(cache / "text", {"text": made_from["text"]}, "text features")
    found, skipped = find_clips(Path(config.folder))
    looks = _Looks(cache / "clips.json")
    entries = []
    for clip in progress(found, "look at the clips"):
        try:
            entries.append(_entry(clip, looks, buckets, config.fps))
        except (ValueError, OSError, MemoryError) as error:
            skipped.append(str(error).replace(str(clip.path), clip.name))
    looks.save()
    paths = {clip.name: clip.path for clip in found}
    for entry in progress([entry for entry in entries if entry.key not in latents], "encode the clips"):
        latents.put(entry.key, encode(_frames(paths[entry.name], entry.bucket, config.fps)[None])[0])
    if not entries:
        first = f"; the first: {skipped[0]}" if skipped else ""
        raise ValueError(
            f"no clip of {config.folder} can be used for training ({len(skipped)} left out{first})"
        )
    captions = dict.fromkeys(["", *(text for entry in entries for text in entry.captions)])
    for caption in progress([c for c in captions if caption_key(c) not in text], "encode the captions"):
        text.put(caption_key(caption), encode_text(caption))
    sources = [
        BucketSource(group, latents) for b in buckets if (group := [e for e in entries if e.bucket == b])
    ]
    state = json.dumps([dataclasses.astuple(entry) for entry in entries])
    return Prepared(tuple(sources), text, tuple(skipped), hashlib.sha256(state.encode()).hexdigest()[:16])


class _Looks:
    """How many frames a file has at a rate, and of what size, kept so that a file is decoded for it only once."""

    def __init__(self, path: Path):
        self._path = path
        self._known: dict[str, list[int]] = json.loads(path.read_text()) if path.is_file() else {}

    def at(self, path: Path, key: str, fps: float, most: int) -> tuple[int, int, int]:
        if key not in self._known:
            whole = _read(path, size=(16, 16), fps=fps, max_frames=most)
            height, width = _read(path, size=None, fps=None, max_frames=1).shape[1:3]
            self._known[key] = [len(whole), height, width]
        frames, height, width = self._known[key]
        return frames, height, width

    def save(self) -> None:
        temporary = self._path.with_name(f".{self._path.name}.new")
        temporary.write_text(json.dumps(self._known))
        temporary.replace(self._path)


def _entry(clip: Captioned, looks: _Looks, buckets: Sequence[Bucket], fps: float) -> Entry:
    stat = clip.path.stat()
    file = f"{clip.name} {stat.st_size} {stat.st_mtime_ns} {fps}"
    most = max(bucket.frames for bucket in buckets)
    frames, height, width = looks.at(clip.path, f"{file} {most}", fps, most)
    bucket = choose_bucket(buckets, frames, height, width)
    if bucket is None:
        shortest = min(bucket.frames for bucket in buckets)
        raise ValueError(
            f"{clip.name} has {frames} frames at {fps:g} fps and the shortest bucket {shortest}: "
            "add a length for such clips"
        )
    key = hashlib.sha256(f"{file} {bucket}".encode()).hexdigest()[:32]
    return Entry(name=clip.name, captions=clip.captions, bucket=bucket, key=key)


def _frames(path: Path, bucket: Bucket, fps: float) -> np.ndarray:
    frames = _read(path, size=(bucket.height, bucket.width), fps=fps, max_frames=bucket.frames)
    if len(frames) != bucket.frames:
        raise ValueError(f"{path} has changed while it was read: start again.")
    return frames


def _read(path: Path, *, size: tuple[int, int] | None, fps: float | None, max_frames: int) -> np.ndarray:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # sound is expected in a folder of videos
        clip = read(path, size=size, fps=fps, max_frames=max_frames, limits=Limits(volume=1 << 30))
    return clip.to_uint8()
