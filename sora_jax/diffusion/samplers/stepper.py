"""dx/dσ = v(x, σ), from noise to data, or a random path with the same ends: what every solver of it answers to.

A sampler is a time schedule and a stepper. A stepper is a frozen dataclass: its settings are part of the
compiled program, and what it remembers of the past is a pytree of arrays that travels with the generation.
"""

from collections.abc import Callable
from typing import Protocol

from sora_jax.typing import Array, Float, Int, PyTree

Level = Callable[[Array], Array]
"""Index of a row of the schedule -> σ, which broadcasts over x; rows past an end are the end's."""

Evaluate = Callable[[Array, Array], Array]
"""x, index of a row of the schedule -> v, of x's shape."""


Noise = Callable[[], Array]
"""ε of x's shape, drawn for this step."""


class Stepper(Protocol):
    """Each token has a level of its own; where it stays, the caller keeps x, whatever a step makes of it."""

    def init(self, x: Float[Array, "b t h w c"]) -> PyTree:
        """The memory before the first step."""
        ...

    def step(
        self,
        x: Float[Array, "b t h w c"],
        memory: PyTree,
        i: Int[Array, ""],
        level: Level,
        evaluate: Evaluate,
        noise: Noise,
    ) -> tuple[Float[Array, "b t h w c"], PyTree]:
        """x at row i of the schedule -> x at row i + 1, and the memory after it."""
        ...
