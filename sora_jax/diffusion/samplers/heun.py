"""Heun's method (arXiv 2206.00364, algorithm 1). Second order; two evaluations a step.

x̂ = x + (σ' - σ)·v(x, σ),    x' = x + (σ' - σ)·(v(x, σ) + v(x̂, σ')) / 2
"""

import dataclasses

import jax.numpy as jnp


@dataclasses.dataclass(frozen=True)
class Heun:
    def init(self, x):
        return ()

    def step(self, x, memory, i, level, evaluate, noise):
        change = level(i + 1) - level(i)
        v = evaluate(x, i)
        v_next = evaluate(x + change * v, i + 1)
        # The model says nothing of a token at level 0, which is a known one to it: Euler goes the last bit.
        return x + change * jnp.where(level(i + 1) > 0, (v + v_next) / 2, v), memory
