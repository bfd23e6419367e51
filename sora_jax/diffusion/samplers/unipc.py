"""UniPC of order 2 with B₂(h) = eʰ - 1 (arXiv 2302.04867) for rectified flow, as Wan's sampler runs it.

Each step first corrects the x it arrived at, with what the model has just said there, then predicts the next.
m = x_0 as the model sees it, λ = log((1 - σ) / σ); the predictor is DPM-Solver++(2M)'s. The corrector goes
again from the last level σ₋₁, h = λ - λ₋₁, with k = σ/σ₋₁ and r = (λ₋₂ - λ₋₁) / h:

    x = k·x₋₁ + (1 - k)·(m₋₁ + ρ₁·(m₋₂ - m₋₁)/r + ρ₂·(m - m₋₁)),    ρ₁ + ρ₂ = b₁,    r·ρ₁ + ρ₂ = b₂
    b₁ = ψ₁ / (e⁻ʰ - 1),    b₂ = 2ψ₂ / (e⁻ʰ - 1),    ψ₁ = (e⁻ʰ - 1)/(-h) - 1,    ψ₂ = ψ₁/(-h) - 1/2

A token's first correction has ρ₁ = 0 and ρ₂ = 1/2. Towards third order away from the ends; one evaluation a step.
"""

import dataclasses
import math

import jax.numpy as jnp

from sora_jax.diffusion.flow import data_from_velocity
from sora_jax.diffusion.samplers.dpmpp import aged, divide, log_snr, predict


def corrector_weights(h, r):
    """ρ₁ and ρ₂ of the corrector of order 2, for h > 0 and r < 0."""
    z = -h

    # ψ is what is left of eᶻ without its first terms; near 0 only the series has the digits.
    def series(first):
        return sum(z**n / math.factorial(n + first) for n in range(1, 9))

    near = jnp.abs(z) < 0.5
    far = jnp.where(near, 1, z)
    psi_1 = jnp.where(near, series(1), jnp.expm1(far) / far - 1)
    psi_2 = jnp.where(near, series(2), (jnp.expm1(far) / far - 1) / far - 0.5)
    b_1, b_2 = divide(psi_1, jnp.expm1(z)), divide(2 * psi_2, jnp.expm1(z))
    rho_1 = (b_1 - b_2) / (1 - r)
    return rho_1, b_1 - rho_1


def correct(x_1, m, m_1, m_2, sigma_2, sigma_1, sigma, second_order):
    """x at `sigma`, from x₋₁ at `sigma_1` and m at `sigma`, of second order where `second_order`."""
    lam_1 = log_snr(sigma_1)
    h = log_snr(sigma) - lam_1
    r = divide(log_snr(sigma_2) - lam_1, h)
    rho_1, rho_2 = corrector_weights(h, r)
    rho_1, rho_2 = jnp.where(second_order, rho_1, 0), jnp.where(second_order, rho_2, 0.5)
    kept = divide(sigma, sigma_1)
    return kept * x_1 + (1 - kept) * (m_1 + divide(rho_1, r) * (m_2 - m_1) + rho_2 * (m - m_1))


@dataclasses.dataclass(frozen=True)
class UniPC:
    def init(self, x):
        zeros = jnp.zeros_like(x)
        return {"x_1": zeros, "m_1": zeros, "m_2": zeros, "age": jnp.zeros_like(x[..., :1], jnp.int32)}

    def step(self, x, memory, i, level, evaluate, noise):
        x_1, m_1, m_2, age = (memory[name] for name in ("x_1", "m_1", "m_2", "age"))
        sigma, sigma_next, sigma_1 = level(i), level(i + 1), level(i - 1)
        m = data_from_velocity(x, evaluate(x, i), sigma)
        corrected = correct(x_1, m, m_1, m_2, level(i - 2), sigma_1, sigma, age > 1)
        x = jnp.where((age > 0) & (sigma > 0), corrected, x)
        x_next = predict(x, m, m_1, sigma_1, sigma, sigma_next, (age > 0) & (sigma_next > 0))
        return x_next, {"x_1": x, "m_1": m, "m_2": m_1, "age": aged(age, sigma, sigma_next)}
