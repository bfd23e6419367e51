"""Cached steps on the flow of test_samplers: a Gaussian target, so that what is skipped costs a known error."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import (
    Ancestral,
    FirstBlock,
    MagCache,
    PerStep,
    StepCache,
    TeaCache,
    cached,
    finish,
    forget,
    magnitude_ratios,
    prepare,
    remask,
    restore,
    run,
    sampling_sigmas,
    save,
    start,
    step,
    step_cache,
    velocity_from_data,
)

SHAPE, STEPS = (2, 3, 2, 2, 4), 30
MU, S = 1.5, 0.4


def velocity(x, sigma, cond):
    """E[ε - x_0 | x_σ = x] for x_0 ~ N(μ, s²), times a guidance that may change along the run."""
    scale = 1.0 if cond is None else cond
    sigma = sigma[..., None]
    spread = (1 - sigma) ** 2 * S**2 + sigma**2
    return scale * ((sigma - (1 - sigma) * S**2) / spread * (x - (1 - sigma) * MU) - MU)


def signal(x, sigma, cond):
    return x * (1 + sigma[..., None])


@functools.cache
def noise():
    return jax.random.normal(jax.random.key(0), SHAPE)


def begin(cache, cond=None):
    gen = start(jax.random.key(0), SHAPE, sampling_sigmas(STEPS, 3.0), noise=noise())
    return prepare(gen, cached(velocity, cache, signal), cond)


@jax.jit
def advance(gen, cache, cond=None, steps=None):
    return run(gen, cached(velocity, cache, signal), cond, steps)


def sample(cache, cond=None):
    return advance(begin(cache, cond), cache, cond, np.int32(STEPS))


@functools.cache
def whole():
    gen = start(jax.random.key(0), SHAPE, sampling_sigmas(STEPS, 3.0), noise=noise())
    return finish(jax.jit(lambda gen: run(gen, velocity))(gen))


@functools.cache
def ratios():
    gen = start(jax.random.key(0), SHAPE, sampling_sigmas(STEPS, 3.0), noise=noise())
    seen = []
    for i in range(STEPS):
        seen.append(velocity(gen.x, jnp.broadcast_to(gen.level(i), (2, 3, 1, 1)), None))
        gen = step_once(gen)
    return magnitude_ratios(jnp.stack(seen))


@jax.jit
def step_once(gen):
    return step(gen, velocity)


def rules(threshold):
    return {
        "tea": TeaCache(threshold=threshold),
        "first-block": FirstBlock(threshold=threshold),
        "mag": MagCache(threshold=threshold, ratios=ratios()),
    }


@pytest.mark.parametrize("name", ["tea", "first-block", "mag"])
def test_a_higher_threshold_skips_more_and_errs_more(name):
    counts, errors = [], []
    for threshold in (1e-9, 0.005, 0.05) if name == "mag" else (1e-9, 0.05, 0.4):
        done = sample(StepCache(rule=rules(threshold)[name]))
        counts.append(int(done.cache["evaluations"]))
        errors.append(float(jnp.abs(finish(done) - whole()).max()))
    assert counts[0] == STEPS
    np.testing.assert_allclose(errors[0], 0, atol=1e-5)
    assert counts[0] > counts[1] > counts[2]
    assert errors[0] < errors[1] < errors[2] < 1


def test_a_slope_follows_a_prediction_that_changes():
    errors, evaluations = [], []
    for order in (0, 1):
        done = sample(StepCache(rule=TeaCache(threshold=0.1), order=order))
        evaluations.append(int(done.cache["evaluations"]))
        errors.append(float(jnp.abs(finish(done) - whole()).max()))
    assert max(evaluations) < 0.6 * STEPS
    assert 10 * errors[1] < errors[0]


def test_fresh_noise_is_taken_out_again():
    """Where the network sees the same clip in every step, skipping costs nothing, whatever noise a sampler adds."""

    def sees_one_clip(x, sigma, cond):
        return velocity_from_data(x, jnp.full(x.shape, MU), sigma)

    gen = start(jax.random.key(0), SHAPE, sampling_sigmas(STEPS, 3.0), stepper=Ancestral(), noise=noise())
    cache = StepCache(rule=TeaCache(threshold=1e9), last=0, longest=STEPS)  # an evaluated last step mends all
    velocity = cached(sees_one_clip, cache, signal)
    done = jax.jit(lambda gen: run(gen, velocity))(prepare(gen, velocity))
    assert int(done.cache["evaluations"]) < 0.4 * STEPS
    np.testing.assert_allclose(finish(done), MU, atol=1e-3)


def test_the_ends_are_evaluated_and_runs_of_skips_are_short():
    cache = StepCache(rule=TeaCache(threshold=1e9), first=0.2, last=2, longest=3)
    gen, evaluated = begin(cache), []
    for _ in range(STEPS):
        after = advance(gen, cache, None, np.int32(1))
        evaluated.append(int(after.cache["evaluations"] - gen.cache["evaluations"]))
        gen = after
    assert evaluated == [1] * 6 + [0, 0, 0, 1] * 5 + [0, 0] + [1, 1]


@pytest.mark.parametrize("order", [0, 1])
def test_paused_saved_and_resumed_gives_the_same_bits(order, tmp_path):
    cache = StepCache(rule=TeaCache(threshold=0.1), order=order)
    gen = advance(begin(cache), cache, None, np.int32(13))
    save(tmp_path / "half.npz", gen)
    resumed = advance(restore(tmp_path / "half.npz")[0], cache, None, np.int32(STEPS))
    straight = sample(cache)
    np.testing.assert_array_equal(finish(resumed), finish(straight))
    assert resumed.cache["evaluations"] == straight.cache["evaluations"] < STEPS


def test_a_condition_that_changes_is_evaluated_at_once():
    cache = StepCache(rule=TeaCache(threshold=1e9), longest=STEPS)
    still = PerStep(jnp.ones(1), index=jnp.zeros(STEPS, jnp.int32))
    turns = PerStep(jnp.array([1.0, 1.1]), index=jnp.repeat(jnp.arange(2), STEPS // 2))
    counts = [int(sample(cache, cond).cache["evaluations"]) for cond in (still, turns)]
    assert counts[1] == counts[0] + 1


def test_an_edit_forgets():
    cache = StepCache(rule=TeaCache(threshold=1e9), longest=STEPS)
    gen = advance(begin(cache), cache, None, np.int32(10))
    edited = remask(gen, jnp.array([True, False, True])[None], jnp.zeros(SHAPE))
    for changed in (edited, forget(gen)):
        after = advance(changed, cache, None, np.int32(2))
        assert after.cache["evaluations"] == gen.cache["evaluations"] + 1


def test_settings():
    assert step_cache("first-block:0.05").rule == FirstBlock(threshold=0.05)
    assert step_cache(0.1).rule == TeaCache(threshold=0.1)
    for setting, says in (
        ("fast:0.1", "first-block"),
        ("tea:-1", "above 0"),
        ("tea:x", "above 0"),
        ("mag:1", "bench"),
    ):
        with pytest.raises(ValueError, match=says):
            step_cache(setting)
    with pytest.raises(ValueError, match="reads a signal"):
        cached(velocity, StepCache(rule=TeaCache()))
    gen = start(jax.random.key(0), SHAPE, sampling_sigmas(2))
    with pytest.raises(ValueError, match="prepare"):
        step(gen, cached(velocity, StepCache(rule=MagCache())))
