import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import Guided, PerStep, at_step, guide, interval, ramp

X = jax.random.normal(jax.random.key(0), (2, 3, 2, 2, 4))
SIGMA = jnp.linspace(0.1, 0.9, 6).reshape(2, 3, 1, 1)
TEXT, NEGATIVE = jax.random.normal(jax.random.key(1), (2, 2, 5, 4))


def velocity(x, sigma, cond):
    text = cond["text"].mean(axis=1)
    return jnp.tanh(x * sigma[..., None]) + text[:, None, None, None, :]


def guided(scale, negative=NEGATIVE, **options):
    cond = Guided(positive={"text": TEXT}, negative={"text": negative}, scale=scale)
    return guide(velocity, **options)(X, SIGMA, cond)


V_C, V_U = velocity(X, SIGMA, {"text": TEXT}), velocity(X, SIGMA, {"text": NEGATIVE})
OPTIONS = [{"batched": True}, {"batched": False}, {"skip": True}]


@pytest.mark.parametrize("options", OPTIONS)
def test_scale_one_is_the_prompt_alone_and_zero_the_negative(options):
    # To the bit; but under `skip` the model is compiled, and these references aren't.
    np.testing.assert_allclose(guided(1.0, **options), V_C, rtol=0, atol=1e-6 if "skip" in options else 0)
    np.testing.assert_allclose(guided(0.0, **options), V_U, atol=1e-6)


@pytest.mark.parametrize("options", OPTIONS)
def test_guidance_goes_on_from_the_negative_through_the_prompt(options):
    np.testing.assert_allclose(guided(4.5, **options), V_U + 4.5 * (V_C - V_U), atol=1e-5)


def test_a_prompt_that_is_its_own_negative_needs_no_guidance():
    np.testing.assert_array_equal(guided(7.0, negative=TEXT), V_C)


@pytest.mark.parametrize("shape", [(2,), (2, 3)])
def test_scales_per_clip_and_per_frame(shape):
    scale = np.arange(1, 1 + np.prod(shape), dtype=np.float32).reshape(shape)
    v = guided(scale)
    for at in np.ndindex(shape):
        np.testing.assert_allclose(v[at], (V_U + scale[at] * (V_C - V_U))[at], atol=1e-5)


def test_one_negative_serves_the_whole_batch():
    v = guided(3.0, negative=NEGATIVE[:1])
    np.testing.assert_allclose(v, guided(3.0, negative=jnp.stack([NEGATIVE[0]] * 2)), atol=1e-6)


def test_batched_asks_the_model_once():
    calls = []

    def counting(x, sigma, cond):
        calls.append(x.shape[0])
        return velocity(x, sigma, cond)

    cond = Guided(positive={"text": TEXT}, negative={"text": NEGATIVE}, scale=2.0)
    guide(counting)(X, SIGMA, cond)
    assert calls == [4]
    guide(counting, batched=False)(X, SIGMA, cond)
    assert calls == [4, 2, 2]


def test_schedules():
    sigmas = np.float32([1.0, 0.8, 0.5, 0.2, 0.0])
    np.testing.assert_array_equal(interval(sigmas, 5.0, 0.3, 0.8), np.float32([1, 5, 5, 1]))
    np.testing.assert_array_equal(ramp(3, 6, 2), np.float32([6, 4, 2]))


def test_conditions_per_step():
    cond = {
        "scale": PerStep(jnp.array([1.0, 2.0, 3.0])),
        "text": PerStep(jnp.stack([TEXT, NEGATIVE]), jnp.array([0, 0, 1])),
        "fixed": TEXT,
        "none": None,
    }
    at = jax.jit(at_step)
    for i, text in enumerate([TEXT, TEXT, NEGATIVE, NEGATIVE]):
        seen = at(cond, jnp.int32(i))
        assert seen["scale"] == min(i + 1, 3)
        np.testing.assert_array_equal(seen["text"], text)
        np.testing.assert_array_equal(seen["fixed"], TEXT)
        assert seen["none"] is None


@pytest.mark.parametrize("options", OPTIONS)
def test_the_negative_sees_known_frames_noised(options):
    sigma = SIGMA.at[:, 0].set(0)
    told = {"positive": {"text": TEXT}, "negative": {"text": NEGATIVE}}

    def at(history, scale=3.0, x=X):
        return guide(velocity, **options)(x, sigma, Guided(**told, scale=scale, history=history))

    def seen(x, sigma, cond):
        return x + sigma[..., None]

    # What it sees: unknown frames as they are, known ones as much noise, alike in both clips.
    seen_by = guide(seen, batched=False)(X, sigma, Guided(**told, scale=0.0, history=0.5))
    np.testing.assert_allclose(seen_by[:, 1:], (X + SIGMA[..., None])[:, 1:], atol=1e-6)
    eps = 2 * (seen_by[:, 0] - 0.5 - 0.5 * X[:, 0])
    np.testing.assert_allclose(eps[0], eps[1], atol=1e-5)
    assert 0.5 < float(jnp.std(eps)) < 1.5
    # Not at all: other known frames give the negative nothing else.
    np.testing.assert_array_equal(at(1.0, 0.0), at(1.0, 0.0, X.at[:, 0].add(1)))
