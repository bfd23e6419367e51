"""Caches on disk: every clip (or caption) is encoded once, and training reads arrays.

`latents-00000.npy`, ... hold `shard_size` clips each as float16 `[n, t, h, w, c]`, normalised; each is written whole or
not at all, so a run that was killed goes on with the first missing one. `ItemCache` has a file an item instead.
`cache.json` says what either was made from.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from sora_jax.media.atomic import atomic


def _check_card(folder: Path, about: dict[str, Any], what: str) -> None:
    """Makes the folder and its card, or compares `about` with the card that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    card = folder / "cache.json"
    if card.exists():
        found = json.loads(card.read_text())
        if found != about:
            different = sorted(k for k in about.keys() | found.keys() if about.get(k) != found.get(k))
            raise ValueError(
                f"the {what} in {folder} were made with another {', '.join(different)}: delete or name another folder."
            )
    else:
        with atomic(card) as temporary:
            temporary.write_text(json.dumps(about, indent=2))


def clips_digest(source: Any) -> str:
    """Sixteen hexadecimal digits of the first eight clips and captions: another version of the playground may draw
    other clips from the same numbers."""
    digest = hashlib.sha256()
    for example in (source[i] for i in range(min(8, len(source)))):
        digest.update(np.ascontiguousarray(example["video"]).tobytes() + str(example["caption"]).encode())
    return digest.hexdigest()[:16]


def fill(
    folder: Path,
    source: Any,
    encode: Callable[[np.ndarray], np.ndarray],
    *,
    made_from: dict[str, Any],
    batch_size: int = 32,
    shard_size: int = 1024,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
    host: int = 0,
    hosts: int = 1,
) -> None:
    """Encodes every clip of `source` that isn't in the cache yet.

    `encode` takes uint8 `[n, t, h, w, 3]` and gives latents `[n, t', h', w', c]`. `made_from` (the VAE's fingerprint,
    the data's settings) is compared with what the folder says of itself: ValueError if they differ. Hosts that share
    the folder begin at different places and leave out what another has done.
    """
    _check_card(folder, {**made_from, "count": len(source), "shard_size": shard_size}, "latents")
    starts = range(0, len(source), shard_size)
    missing = [start for start in starts if not _shard(folder, start // shard_size).exists()]
    own = len(missing) * host // hosts
    for start in progress(missing[own:] + missing[:own]):
        if _shard(folder, start // shard_size).exists():
            continue
        stop = min(start + shard_size, len(source))
        parts = []
        for clips in _batches(source, start, stop, batch_size):
            short = batch_size - len(clips)
            padded = np.concatenate([clips, np.repeat(clips[-1:], short, axis=0)]) if short else clips
            parts.append(encode(padded)[: len(clips)].astype(np.float16))
        with atomic(_shard(folder, start // shard_size)) as temporary, temporary.open("wb") as file:
            np.save(file, np.concatenate(parts))


def _batches(source: Any, start: int, stop: int, batch_size: int) -> Iterator[np.ndarray]:
    """The clips from `start` to `stop`, each batch read on another thread while the one before it is used."""

    def read(first: int) -> np.ndarray:
        return np.stack([source[i]["video"] for i in range(first, min(first + batch_size, stop))])

    firsts = range(start, stop, batch_size)
    with ThreadPoolExecutor(1) as thread:
        coming = thread.submit(read, start)
        for following in firsts[1:]:
            clips, coming = coming.result(), thread.submit(read, following)
            yield clips
        yield coming.result()


def _shard(folder: Path, number: int) -> Path:
    return folder / f"latents-{number:05d}.npy"


class ItemCache:
    """Arrays by key, a file each, float16 on disk: for items that come, go and differ in shape.

    `made_from` is compared with what the folder says of itself: ValueError if they differ.
    """

    def __init__(self, folder: Path, made_from: dict[str, Any], what: str):
        _check_card(folder, made_from, what)
        self._folder = folder

    def _path(self, key: str) -> Path:
        # No .npy, whose header is parsed as Python: Python 3.11 does that wrongly in several threads at once.
        return self._folder / f"{key}.safetensors"

    def __contains__(self, key: str) -> bool:
        return self._path(key).exists()

    def put(self, key: str, array: np.ndarray) -> None:
        """Writes an array, whole or not at all. ValueError where a number is not finite in float16."""
        with np.errstate(over="ignore"):
            half = np.asarray(array).astype(np.float16)
        if not np.isfinite(half).all():
            raise ValueError(f"{key} holds numbers that float16 can't: the network that made it diverged.")
        with atomic(self._path(key)) as temporary:
            temporary.write_bytes(save({key: np.ascontiguousarray(half)}))

    def __getitem__(self, key: str) -> np.ndarray:
        """The array as float32."""
        return load_file(self._path(key))[key].astype(np.float32)


class LatentSource:
    """The cache as a source: {"latents": float32 [t, h, w, c], "index"}."""

    def __init__(self, folder: Path):
        about = json.loads((folder / "cache.json").read_text())
        self._count, self._shard_size = about["count"], about["shard_size"]
        shards = -(-self._count // self._shard_size)
        self._shards = [np.load(_shard(folder, i), mmap_mode="r", allow_pickle=False) for i in range(shards)]

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        latents = self._shards[index // self._shard_size][index % self._shard_size]
        return {"latents": np.asarray(latents, np.float32), "index": index}
