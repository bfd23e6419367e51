"""Ancestral sampling (arXiv 2006.11239, in the form of 2010.02502, equation 16) for rectified flow.

With m = x_0 and n = ε as the model sees them, α = 1 - σ, and fresh noise ε in every step:

    x' = α'·m + √(σ'² - s²)·n + s·ε,    s = η·σ'·√(1 - (σ'·α / (σ·α'))²)

η = 0 is Euler's method, η = 1 is as random as the noising was. First order; one evaluation a step. What a network
got wrong at one level is noised and looked at again: where it isn't quite trained, that mends more than it costs.
"""

import dataclasses

import jax.numpy as jnp

from sora_jax.diffusion.flow import data_from_velocity, noise_from_velocity
from sora_jax.diffusion.samplers.dpmpp import divide


@dataclasses.dataclass(frozen=True)
class Ancestral:
    eta: float = 1.0
    """Between 0 and 1."""

    def init(self, x):
        return ()

    def step(self, x, memory, i, level, evaluate, noise):
        sigma, sigma_next = level(i), level(i + 1)
        v = evaluate(x, i)
        m, n = data_from_velocity(x, v, sigma), noise_from_velocity(x, v, sigma)
        kept = divide(sigma_next * (1 - sigma), sigma * (1 - sigma_next))
        fresh = self.eta * sigma_next * jnp.sqrt(jnp.maximum(1 - jnp.square(kept), 0))
        old = jnp.sqrt(jnp.maximum(jnp.square(sigma_next) - jnp.square(fresh), 0))
        return (1 - sigma_next) * m + old * n + fresh * noise(), memory
