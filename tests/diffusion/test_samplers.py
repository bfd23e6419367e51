"""Solvers against a target whose flow is known in closed form: x_0 ~ N(μ, s²) in every coordinate.

With S(σ)² = (1 - σ)²s² + σ², x_σ follows N((1 - σ)μ, S²), so the flow from ε is x(σ) = (1 - σ)μ + S·ε.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import (
    SAMPLERS,
    Ancestral,
    Euler,
    finish,
    run,
    sampler,
    sampling_sigmas,
    staggered,
    start,
)

SHAPE = (2, 3, 2, 2, 1)
MU, S = 1.5, 0.4


def spread(sigma):
    return ((1 - sigma) ** 2 * S**2 + sigma**2) ** 0.5


def exact(eps, sigma):
    return (1 - sigma) * MU + spread(sigma) * eps


def velocity(x, sigma, cond):
    """E[ε - x_0 | x_σ = x]."""
    sigma = sigma[..., None]
    return (sigma - (1 - sigma) * S**2) / spread(sigma) ** 2 * (x - (1 - sigma) * MU) - MU


@functools.cache
def noise():
    return jax.random.normal(jax.random.key(0), SHAPE)


@functools.partial(jax.jit, static_argnames="stepper")
def solve(sigmas, stepper):
    first = sigmas[0] if sigmas.ndim == 1 else sigmas[0].reshape(1, -1, 1, 1, 1)
    gen = start(jax.random.key(0), SHAPE, sigmas, stepper=stepper, noise=exact(noise(), first))
    return finish(run(gen, velocity))


def errors(name, schedules):
    stepper = SAMPLERS[name].stepper
    ends = [exact(noise(), float(sigmas[-1])) for sigmas in schedules]
    return [float(abs(solve(s, stepper) - end).max()) for s, end in zip(schedules, ends, strict=True)]


def order(name, schedules):
    coarse, fine = errors(name, schedules)
    return np.log(coarse / fine) / np.log(len(schedules[1]) / len(schedules[0])), fine


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("euler", 0.9, 1.1), ("heun", 1.9, 2.1), ("dpmpp", 2.0, 3.0), ("unipc", 2.3, 3.1)],
)
def test_measured_order_away_from_the_ends(name, low, high):
    measured, _ = order(name, [np.linspace(0.9, 0.2, n + 1, dtype=np.float32) for n in (16, 64)])
    assert low < measured < high


@pytest.mark.parametrize(
    ("name", "low", "bound"),
    [("euler", 0.9, 0.02), ("heun", 1.9, 5e-4), ("dpmpp", 1.1, 2.5e-3), ("unipc", 1.7, 8e-4)],
)
def test_from_noise_to_data(name, low, bound):
    measured, error = order(name, [sampling_sigmas(n) for n in (20, 80)])
    assert measured > low
    assert error < bound


@pytest.mark.parametrize("name", sorted(SAMPLERS.keys() - {"ancestral"}))
def test_frames_with_schedules_of_their_own(name):
    """Waiting, moving and finished frames in one run: each ends where it does alone."""
    sigmas = sampling_sigmas(8)
    together = solve(staggered(sigmas, 3, 3), SAMPLERS[name].stepper)
    alone = solve(sigmas, SAMPLERS[name].stepper)
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("eta", [0.5, 1.0])
def test_ancestral_sampling_draws_from_the_data(eta):
    gen = start(jax.random.key(1), (64, *SHAPE[1:]), sampling_sigmas(200), stepper=Ancestral(eta))
    x = np.asarray(finish(jax.jit(functools.partial(run, velocity=velocity))(gen)))
    assert np.mean(x) == pytest.approx(MU, abs=0.06)  # 3 standard errors are 0.043
    assert np.std(x) == pytest.approx(S, rel=0.1)
    eps = np.asarray(gen.x)
    kept = np.corrcoef(x.ravel(), eps.ravel())[0, 1]
    assert kept < 0.9 if eta == 0.5 else abs(kept) < 0.2  # an ODE's would be 1


def test_ancestral_sampling_without_fresh_noise_is_eulers_method():
    sigmas = sampling_sigmas(8)
    np.testing.assert_allclose(solve(sigmas, Ancestral(0.0)), solve(sigmas, Euler()), atol=1e-5)


def test_a_clips_fresh_noise_is_its_own():
    keys = jax.random.split(jax.random.key(0), 2)
    sigmas = sampling_sigmas(4)
    both = finish(run(start(keys, SHAPE, sigmas, stepper=Ancestral()), velocity))
    second = finish(run(start(keys[1:], (1, *SHAPE[1:]), sigmas, stepper=Ancestral()), velocity))
    np.testing.assert_allclose(both[1:], second, atol=1e-6)


def test_a_straight_flow_is_solved_in_one_step():
    x0 = jnp.float32(2.0)
    for name in SAMPLERS:
        gen = start(jax.random.key(0), SHAPE, jnp.array([1.0, 0.0]), stepper=SAMPLERS[name].stepper)
        done = run(gen, lambda x, sigma, cond: (x - x0) / sigma[..., None])
        np.testing.assert_allclose(finish(done), 2.0, atol=1e-5)


def test_unknown_sampler_lists_the_others():
    assert sampler("unipc") is SAMPLERS["unipc"]
    with pytest.raises(ValueError, match="euler"):
        sampler("ddim")
