"""Euler's method: x' = x + (σ' - σ)·v(x, σ). First order; one evaluation a step."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Euler:
    def init(self, x):
        return ()

    def step(self, x, memory, i, level, evaluate, noise):
        return x + (level(i + 1) - level(i)) * evaluate(x, i), memory
