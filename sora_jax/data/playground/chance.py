"""Random choices that are the same on any machine and under any version of NumPy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

__all__ = ["Chance"]

T = TypeVar("T")


class Chance:
    """Choices from the raw words of PCG64: the one stream that NumPy promises never to change.

    `seed` is a whole number >= 0 or several of them; `stream` keeps different uses of one seed apart.
    """

    def __init__(self, seed: int | Sequence[int], stream: int = 0):
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        """A float in [low, high)."""
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def uniforms(self, rows: int, columns: int) -> np.ndarray:
        """Many floats in [0, 1), float64[rows, columns]."""
        words = np.asarray(self._bits.random_raw(rows * columns), np.uint64)
        return ((words >> np.uint64(11)) * 2.0**-53).reshape(rows, columns)

    def happens(self, probability: float) -> bool:
        """True with this probability."""
        return self.uniform() < probability

    def pick(self, values: Sequence[T]) -> T:
        """One of `values`, each as likely."""
        return values[int(self.uniform() * len(values))]
