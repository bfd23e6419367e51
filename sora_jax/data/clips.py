"""A folder of clips and captions as latents and text features, bucketed by size, each encoded once and kept on disk.

The networks that encode come in as functions. Which clips there are is decided before anything is encoded: a file that
can't be used is named and left out, and the rest is always in the same order. Hosts that share the folder and the cache
each look at and encode a part, and tell the others what they found.
"""

import dataclasses
import hashlib
import json
import time
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sora_jax.data.buckets import Bucket, choose_bucket, make_buckets
from sora_jax.data.folder_captions import Captioned, find_clips
from sora_jax.data.latents import ItemCache
from sora_jax.media import Limits, read
from sora_jax.media.atomic import atomic

__all__ = ["BucketSource", "ClipsConfig", "Prepared", "prepare"]

Progress = Callable[[Sequence[Any], str], Iterable[Any]]
Together = Callable[[Any], list[Any]]
"""All hosts come here together; what each gives, which JSON can hold, in their order."""

ROUND = 16
"""So many pieces of work a host does before it meets the others, who learn there of one that failed."""
SEEN_WITHIN = 90.0
"""Seconds for which a shared file system may remember that a file wasn't there."""


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
    encode_text: Callable[[Sequence[str]], Sequence[np.ndarray]],
    made_from: Mapping[str, str],
    at_once: int = 1,
    progress: Progress = lambda items, label: items,
    host: int = 0,
    hosts: int = 1,
    together: Together = lambda value: [value],
) -> Prepared:
    """Finds the clips, and encodes those and the captions that aren't in `cache` yet, each host its part of them.

    Args:
        temporal_factor, grid: pixels of a latent frame in time, and of a token's side.
        encode: uint8 [n, t, h, w, 3] to latents [n, t', h', w', c].
        encode_text: captions to the features of their tokens [s, d]; "" is encoded as well.
        made_from: the fingerprints of the networks, "vae" and "text"; ValueError where the cache was made with others.
        at_once: the most clips, or captions, that are given to `encode` at a time.
        host, hosts, together: this host of so many, and where they meet. All return the same, when all is encoded.

    Raises ValueError where no usable clip is left, where hosts don't share the folder or the cache, and where a clip
    can't be encoded, on every host and naming it; OSError where there is no folder.
    """
    buckets = config.buckets(temporal_factor, grid)
    latents = ItemCache(cache / "latents", {"vae": made_from["vae"], "fps": config.fps}, "latents")
    text = ItemCache(cache / "text", {"text": made_from["text"]}, "text features")
    found, skipped = find_clips(Path(config.folder))
    if len(set(together(_digest([(clip.name, clip.captions) for clip in found])))) > 1:
        raise ValueError(
            f"the hosts find different clips in {config.folder}: put them in a folder that all hosts share."
        )

    def each_its_part(items: Sequence[Any], label: str, work: Callable[[Any], None]) -> None:
        own = [
            items[i] if i < len(items) else None for i in range(host, len(items) + -len(items) % hosts, hosts)
        ]
        failed: Exception | None = None
        for number, item in enumerate(progress(own, label), 1):
            try:
                if item is not None and failed is None:
                    work(item)
            except Exception as error:
                failed = error
            if number % ROUND and number < len(own):
                continue
            failures = [
                failure
                for failure in together(None if failed is None else str(failed))
                if failure is not None
            ]
            if failed:
                raise failed
            if failures:
                raise ValueError(failures[0])

    entries, unusable = _looked_at(
        found, cache / "clips.json", buckets, config.fps, each_its_part, together, host
    )
    skipped += unusable
    if not entries:
        first = f"; the first: {skipped[0]}" if skipped else ""
        raise ValueError(
            f"no clip of {config.folder} can be used for training ({len(skipped)} left out{first})"
        )
    captions = list(dict.fromkeys(["", *(text for entry in entries for text in entry.captions)]))
    # A host may see files later than another, and all have to divide the same.
    lacking = together(
        [
            [i for i, entry in enumerate(entries) if entry.key not in latents],
            [i for i, caption in enumerate(captions) if caption_key(caption) not in text],
        ]
    )[0]
    paths = {clip.name: clip.path for clip in found}

    def encode_clips(group: Sequence[Entry]) -> None:
        clips = [_frames(paths[entry.name], entry.bucket, config.fps) for entry in group]
        for entry, one in zip(group, encode(np.stack(clips)), strict=True):
            _put(latents, entry.key, one, entry.name)

    def encode_captions(group: Sequence[str]) -> None:
        for caption, one in zip(group, encode_text(group), strict=True):
            _put(text, caption_key(caption), one, f"the caption {caption!r}")

    missing = [entries[i] for i in lacking[0]]
    by_bucket = [[entry for entry in missing if entry.bucket == bucket] for bucket in buckets]
    each_its_part(_groups(by_bucket, at_once), "encode the clips", encode_clips)
    words = [captions[i] for i in lacking[1]]
    each_its_part(_groups([words], at_once), "encode the captions", encode_captions)
    if hosts > 1:
        _await(latents, [entry.key for entry in missing], cache)
        _await(text, [caption_key(caption) for caption in words], cache)
    sources = [
        BucketSource(group, latents) for b in buckets if (group := [e for e in entries if e.bucket == b])
    ]
    state = [dataclasses.astuple(entry) for entry in entries]
    return Prepared(tuple(sources), text, tuple(skipped), _digest(state))


def _digest(state: Any) -> str:
    return hashlib.sha256(json.dumps(state).encode()).hexdigest()[:16]


def _groups(lists: Sequence[Sequence[Any]], size: int) -> list[Sequence[Any]]:
    """Each list in parts of `size` or fewer."""
    return [items[first : first + size] for items in lists for first in range(0, len(items), size)]


def _put(cache: ItemCache, key: str, array: np.ndarray, name: str) -> None:
    try:
        cache.put(key, array)
    except ValueError as error:
        raise ValueError(f"{name} can't be encoded: {error}") from error


def _await(cache: ItemCache, keys: Sequence[str], folder: Path) -> None:
    """Returns when this host sees all of what the hosts have written."""
    begun = time.monotonic()
    while missing := [key for key in keys if key not in cache]:
        if time.monotonic() - begun > SEEN_WITHIN:
            raise ValueError(
                f"{len(missing)} of {len(keys)} files that other hosts wrote aren't in {folder}: name a cache on a "
                "disk that all hosts share."
            )
        time.sleep(min(1.0, SEEN_WITHIN))


def _looked_at(
    found: Sequence[Captioned],
    kept: Path,
    buckets: Sequence[Bucket],
    fps: float,
    each_its_part: Callable[[Sequence[Any], str, Callable[[Any], None]], None],
    together: Together,
    host: int,
) -> tuple[list[Entry], list[str]]:
    """The clips that fill a bucket, and a sentence for each of the others.

    How many frames a file has at a rate, and of what size, is kept in the file `kept`: it is decoded for that once.
    """
    known: dict[str, list[int]] = json.loads(kept.read_text()) if kept.is_file() else {}
    most = max(bucket.frames for bucket in buckets)
    seen: dict[str, Any] = {}

    def look(clip: Captioned) -> None:
        try:
            stat = clip.path.stat()
            file = f"{clip.name} {stat.st_size} {stat.st_mtime_ns} {fps}"
            size = known.get(f"{file} {most}") or _size(clip.path, fps, most)
            seen[clip.name] = [file, size]
        except (ValueError, OSError, MemoryError) as error:
            seen[clip.name] = str(error).replace(str(clip.path), clip.name)

    each_its_part(found, "look at the clips", look)
    seen = {name: look for part in together(seen) for name, look in part.items()}
    entries, unusable = [], []
    for clip in found:
        if isinstance(seen[clip.name], str):
            unusable.append(seen[clip.name])
            continue
        file, size = seen[clip.name]
        known[f"{file} {most}"] = size
        frames, height, width = size
        bucket = choose_bucket(buckets, frames, height, width)
        if bucket is None:
            shortest = min(bucket.frames for bucket in buckets)
            unusable.append(
                f"{clip.name} has {frames} frames at {fps:g} fps and the shortest bucket {shortest}: "
                "add a length for such clips"
            )
            continue
        key = hashlib.sha256(f"{file} {bucket}".encode()).hexdigest()[:32]
        entries.append(Entry(name=clip.name, captions=clip.captions, bucket=bucket, key=key))
    if host == 0:
        with atomic(kept) as temporary:
            temporary.write_text(json.dumps(known))
    return entries, unusable


def _size(path: Path, fps: float, most: int) -> list[int]:
    """Frames at the rate, as many as are asked for at most, height and width."""
    whole = _read(path, size=(16, 16), fps=fps, max_frames=most)
    height, width = _read(path, size=None, fps=None, max_frames=1).shape[1:3]
    return [len(whole), height, width]


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
