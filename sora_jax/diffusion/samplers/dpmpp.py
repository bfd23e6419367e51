"""DPM-Solver++(2M) (arXiv 2211.01095, algorithm 2) for rectified flow. Second order; one evaluation a step.

With m = x_0 as the model sees it, λ = log((1 - σ) / σ), h = λ' - λ and r = (λ₋₁ - λ) / h (the level before):

    x' = (σ'/σ)·x + (1 - σ'/σ)·(m + (m₋₁ - m) / 2r)

The published form has α'(1 - e⁻ʰ) in place of 1 - σ'/σ: they are equal where α = 1 - σ.
A token's first step, and the one to σ' = 0, are of first order (without the difference).
"""

import dataclasses

import jax.numpy as jnp

from sora_jax.diffusion.flow import data_from_velocity
from sora_jax.diffusion.schedule import BELOW_ONE


def log_snr(sigma):
    """λ = log((1 - σ) / σ), kept finite at both ends."""
    sigma = jnp.clip(sigma, 1e-7, 1 - BELOW_ONE)
    return jnp.log(1 - sigma) - jnp.log(sigma)


def divide(a, b):
    """a / b, and 0 where b is: the caller doesn't use it there, and a gradient stays finite."""
    return jnp.where(b == 0, 0, a / jnp.where(b == 0, 1, b))


def predict(x, m, m_before, sigma_before, sigma, sigma_next, second_order):
    """x at `sigma_next`, of second order where `second_order`. A token whose level stays keeps its x."""
    lam = log_snr(sigma)
    r = divide(log_snr(sigma_before) - lam, log_snr(sigma_next) - lam)
    slope = jnp.where(second_order, divide(m_before - m, 2 * r), 0)
    kept = jnp.where(sigma > 0, divide(sigma_next, sigma), 1)
    return kept * x + (1 - kept) * (m + slope)


def aged(age, sigma, sigma_next):
    """How many steps in a row each token has moved: what a multistep method may look back on."""
    return jnp.where(sigma_next < sigma, age + 1, 0)


@dataclasses.dataclass(frozen=True)
class DPMSolverPP:
    def init(self, x):
        return {"m": jnp.zeros_like(x), "age": jnp.zeros_like(x[..., :1], jnp.int32)}

    def step(self, x, memory, i, level, evaluate, noise):
        sigma, sigma_next = level(i), level(i + 1)
        m = data_from_velocity(x, evaluate(x, i), sigma)
        second = (memory["age"] > 0) & (sigma_next > 0)
        x = predict(x, m, memory["m"], level(i - 1), sigma, sigma_next, second)
        return x, {"m": m, "age": aged(memory["age"], sigma, sigma_next)}
