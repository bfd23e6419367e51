"""From a random-access source to an endless, shuffled, resumable iterator of batches (Grain).

The batches are the same for any number of hosts, and every host reads its own rows of each. The iterator's state is a
small dict: restored, on as many hosts or others, it goes on with the very example that was next.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import grain
import numpy as np

RandomMap = Callable[[dict[str, Any], np.random.Generator], dict[str, Any]]


class Source(Protocol):
    """Random access to examples; an example has at least `caption` and `index`, a number or a name that is its own."""

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
    augmentations differ between epochs and yet come back the same after a resume. An example's `index` stays with it.
    Raises ValueError if the batch doesn't divide over the hosts or the source is empty.
    """
    own = _rows(batch_size, hosts)
    if not len(source):
        raise ValueError("there is nothing to train on: the source needs an example.")
    stream = _HostRows.of(_stream(source, seed, random_maps), batch_size, host, hosts)
    ahead = max(16, 2 * own) if prefetch is None else prefetch
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead)
    iterator = stream.to_iter_dataset(options).batch(own, drop_remainder=True).__iter__()
    return iterator if hosts == 1 else _OfAllHosts(iterator, hosts)


def bucketed_batches(
    sources: Sequence[Source],
    *,
    batch_size: int | Sequence[int],
    seed: int,
    weights: Sequence[float] | None = None,
    random_maps: Sequence[RandomMap] = (),
    host: int = 0,
    hosts: int = 1,
    threads: int = 1,
    prefetch: int = 2,
) -> grain.DatasetIterator:
    """As `batches`, of several sources: each batch is of one of them.

    `batch_size` is one for all or one for each; their batches come as often as `weights` say, by default as they have
    examples. All hosts read the same source at the same step. A source smaller than a batch is gone through more than
    once in it. Raises ValueError if a batch doesn't divide over the hosts, or there is nothing to read.
    """
    if not sources or not all(map(len, sources)):
        raise ValueError("there is nothing to train on: every source needs an example.")
    sizes = [batch_size] * len(sources) if isinstance(batch_size, int) else batch_size
    parts = []
    for number, (source, size) in enumerate(zip(sources, sizes, strict=True)):
        part = _HostRows.of(_stream(source, seed + number, random_maps), size, host, hosts)
        parts.append(part.batch(_rows(size, hosts), drop_remainder=True))
    mixed: Any = grain.MapDataset.mix(parts, weights or [float(len(source)) for source in sources])
    options = grain.ReadOptions(num_threads=threads, prefetch_buffer_size=prefetch)
    return mixed.to_iter_dataset(options).__iter__()


def _rows(batch_size: int, hosts: int) -> int:
    if batch_size % hosts:
        raise ValueError(
            f"batch size {batch_size} doesn't divide over {hosts} hosts: choose a multiple of {hosts}."
        )
    return batch_size // hosts


def _stream(source: Source, seed: int, random_maps: Sequence[RandomMap]) -> Any:
    """The endless sequence of examples that all hosts share."""
    dataset: Any = grain.MapDataset.source(cast(Any, source)).seed(seed).shuffle().repeat(None)
    for random_map in random_maps:
        dataset = dataset.random_map(functools.partial(_keeping_index, random_map))
    return dataset


def _keeping_index(
    random_map: RandomMap, example: dict[str, Any], rng: np.random.Generator
) -> dict[str, Any]:
    kept = {"index": example["index"]} if "index" in example else {}
    return {**random_map(example, rng), **kept}


class _HostRows(grain.MapDataset):
    """Of every `batch_size` examples the rows of one host, which lie together in the batch."""

    @classmethod
    def of(cls, stream: Any, batch_size: int, host: int, hosts: int) -> Any:
        return stream if hosts == 1 else cls(stream, batch_size, host, hosts)

    def __init__(self, parent: Any, batch_size: int, host: int, hosts: int):
        super().__init__(parent)
        self._batch_size, self._host, self._hosts = batch_size, host, hosts

    def __len__(self) -> int:
        return len(self._parent) // self._hosts

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return self.slice(index)
        own = self._batch_size // self._hosts
        batch, row = divmod(index, own)
        return self._parent[batch * self._batch_size + self._host * own + row]


class _OfAllHosts(grain.DatasetIterator):
    """An iterator of one host, whose state counts the examples of all."""

    def __init__(self, own: grain.DatasetIterator, hosts: int):
        super().__init__(own)
        self._own, self._hosts = own, hosts

    def __next__(self) -> Any:
        return next(self._own)

    def get_state(self) -> dict[str, Any]:
        return {"next_index": self._own.get_state()["next_index"] * self._hosts}

    def set_state(self, state: dict[str, Any]) -> None:
        self._own.set_state({"next_index": state["next_index"] // self._hosts})


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
