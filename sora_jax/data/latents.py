"""A cache of latents on disk: every clip is encoded once, and training reads arrays.

`latents-00000.npy`, ... hold `shard_size` clips each as float16 `[n, t, h, w, c]`, normalised; each is written whole or
not at all, so a run that was killed goes on with the first missing one. `cache.json` says what they were made from.
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np


def _write_atomically(path: Path, write: Callable[[Any], None]) -> None:
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


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
    folder.mkdir(parents=True, exist_ok=True)
    about = {**made_from, "count": len(source), "shard_size": shard_size}
    card = folder / "cache.json"
    if card.exists():
        found = json.loads(card.read_text())
        if found != about:
            different = sorted(k for k in about.keys() | found.keys() if about.get(k) != found.get(k))
            raise ValueError(
                f"the latents in {folder} were made with another {', '.join(different)}: delete or name another folder."
            )
    else:
        _write_atomically(card, lambda file: file.write(json.dumps(about, indent=2).encode()))
    starts = range(0, len(source), shard_size)
    missing = [start for start in starts if not _shard(folder, start // shard_size).exists()]
    own = len(missing) * host // hosts
    for start in progress(missing[own:] + missing[:own]):
        if _shard(folder, start // shard_size).exists():
            continue
        stop = min(start + shard_size, len(source))
        parts = []
        for first in range(start, stop, batch_size):
            clips = np.stack([source[i]["video"] for i in range(first, min(first + batch_size, stop))])
            short = batch_size - len(clips)
            padded = np.concatenate([clips, np.repeat(clips[-1:], short, axis=0)]) if short else clips
            parts.append(encode(padded)[: len(clips)].astype(np.float16))
        _write_atomically(
            _shard(folder, start // shard_size), lambda file, p=parts: np.save(file, np.concatenate(p))
        )


def _shard(folder: Path, number: int) -> Path:
    return folder / f"latents-{number:05d}.npy"


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
