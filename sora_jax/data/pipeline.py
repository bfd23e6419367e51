"""From a random-access source to an endless, shuffled, resumable iterator of batches (Grain).

Every host reads its own part of each batch. The iterator's state is a small dict: restored, it goes on with the very
example that was next.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import grain
import numpy as np

RandomMap = Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]


class Source(Protocol):
    """Random access to examples; an example has at least `caption` and `index`."""

    def __len__(self) -> int: ...

    def __getitem__(self, record_key: int, /) -> dict[str, Any]: ...


def batches(
    source: Source,
    *,
    batch_size: int,
    seed: int,
    random_maps: Sequence[RandomMap] = (),
    host: int = 0,
    hosts: int = 1,
    threads: int = 1,
    prefetch: int | None = None,
) -> grain.DatasetIterator:
    """An endless iterator of dicts of stacked arrays, `batch_size // hosts` examples each.

    `prefetch` examples are made ahead on `threads` threads; by default two batches, at least 16.

    `random_maps` run in order on each example with a generator that depends on `seed`, the epoch and the example, so
    augmentations differ between epochs and yet come back the same after a resume.
    Raises ValueError if the batch doesn't divide over the hosts or the source has less than one example a host.
    """
    if batch_size % hosts:
        raise ValueError(
            f"batch size {batch_size} doesn't divide over {hosts} hosts: choose a multiple of {hosts}."
        )
    if len(source) < hosts:
        raise ValueError(f"{len(source)} examples can't feed {hosts} hosts: bring at least one a host.")
    dataset: Any = grain.MapDataset.source(cast(Any, source))[host::hosts].seed(seed).shuffle().repeat(None)
    for random_map in random_maps:
        dataset = dataset.random_map(random_map)
    ahead = max(16, 2 * batch_size // hosts) if prefetch is None else prefetch
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    return dataset.to_iter_dataset(options).batch(batch_size // hosts, drop_remainder=True).__iter__()


def bucketed_batches(
    sources: Sequence[Source],
    *,
    batch_size: int,
    seed: int,
    random_maps: Sequence[RandomMap] = (),
    host: int = 0,
    hosts: int = 1,
    threads: int = 1,
    prefetch: int = 2,
) -> grain.DatasetIterator:
    """As `batches`, of several sources: each batch is of one of them, and they come as often as they have examples.

    All hosts read the same source at the same step. A source smaller than a batch is gone through more than once in it.
    Raises ValueError if the batch doesn't divide over the hosts, or there is nothing to read.
    """
    if batch_size % hosts:
        raise ValueError(
            f"batch size {batch_size} doesn't divide over {hosts} hosts: choose a multiple of {hosts}."
        )
    if not sources or not all(map(len, sources)):
        raise ValueError("there is nothing to train on: every source needs an example.")
    parts = []
    for number, source in enumerate(sources):
        part: Any = grain.MapDataset.source(cast(Any, source)).seed(seed + number).shuffle().repeat(None)
        part = part[host::hosts]
        for random_map in random_maps:
            part = part.random_map(random_map)
        parts.append(part.batch(batch_size // hosts, drop_remainder=True))
    mixed: Any = grain.MapDataset.mix(parts, [float(len(source)) for source in sources])
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return mixed.to_iter_dataset(options).__iter__()


def crop(size: int | None, frames: int | None, tries: int = 2) -> RandomMap:
    """Cuts a random window of `size` x `size` pixels and `frames` frames, the liveliest of `tries` windows.

    Flat background teaches an autoencoder little, so windows with more variance are preferred.
    """

    def cut(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        video = example["video"]
        t, h, w, _ = video.shape
        n, side = frames or t, size or min(h, w)
        if t < n or h < side or w < side:
            raise ValueError(
                f"a clip of {t} frames, {h}x{w} is smaller than the window of {n} frames, {side}x{side}."
            )
        best, liveliest = None, -1.0
        for _ in range(tries if (size or frames) else 1):
            i, j, k = rng.integers(t - n + 1), rng.integers(h - side + 1), rng.integers(w - side + 1)
            window = video[i : i + n, j : j + side, k : k + side] if size else video[i : i + n]
            variance = float(np.var(window[:: max(n // 3, 1), ::2, ::2], axis=(0, 1, 2)).sum())
            if variance > liveliest:
                best, liveliest = window, variance
        return {"video": np.ascontiguousarray(best)}

    return cut
