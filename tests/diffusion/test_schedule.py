from math import erf

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_jax.diffusion import (
    LogitNormal,
    capped,
    dpmpp_sigmas,
    euler_sigmas,
    sampling_sigmas,
    scaled,
    shift,
    staggered,
)

SIGMA = st.floats(0, 1)
SHIFT = st.floats(0.1, 20)


@given(SIGMA, SHIFT, SHIFT)
def test_shift_identities(sigma, s, r):
    assert shift(0.0, s) == 0
    assert shift(1.0, s) == pytest.approx(1)
    assert shift(sigma, 1.0) == sigma
    assert shift(shift(sigma, s), 1 / s) == pytest.approx(sigma, abs=1e-9)
    assert shift(shift(sigma, s), r) == pytest.approx(shift(sigma, s * r), abs=1e-9)
    assert shift(sigma, max(s, 1.0)) >= sigma - 1e-12
    assert shift(sigma, min(s, 1.0)) <= sigma + 1e-12


@given(st.floats(0.01, 0.99), SHIFT)
def test_shift_multiplies_the_odds(sigma, s):
    shifted = shift(sigma, s)
    assert shifted / (1 - shifted) == pytest.approx(s * sigma / (1 - sigma), rel=1e-6)


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("s", [1.0, 3.0, 12])
def test_sampling_sigmas_fall_from_noise_to_data(steps, s):
    sigmas = sampling_sigmas(steps, s)
    assert sigmas.shape == (steps + 1,)
    assert sigmas.dtype == np.float32
    assert sigmas[0] == np.float32(1 - 1e-6)
    assert sigmas[-1] == 0
    assert (np.diff(sigmas) < 0).all()


def test_sampling_sigmas_as_published():
    # linspace(1, 1/1000, 5) without its end, shifted by 3.
    plain = np.array([1 - 1e-6, 0.75025, 0.5005, 0.25075])
    np.testing.assert_allclose(sampling_sigmas(4)[:-1], plain, atol=1e-6)
    np.testing.assert_allclose(sampling_sigmas(4, 3.0)[1:-1], 3 * plain[1:] / (1 + 2 * plain[1:]), atol=1e-6)


@pytest.mark.parametrize(("steps", "s"), [(0, 1.0), (-1, 1.0), (5, 0.0), (5, -2.0), (5, float("nan"))])
def test_nonsense_schedules_are_refused(steps, s):
    with pytest.raises(ValueError, match=r"at least 1|positive"):
        sampling_sigmas(steps, s)


def test_staggered_frames_run_the_same_schedule_later():
    sigmas = sampling_sigmas(6, 3.0)
    rows = staggered(sigmas, 4, 2)
    assert rows.shape == (6 + 2 * 3 + 1, 4)
    for frame in range(4):
        np.testing.assert_array_equal(rows[2 * frame : 2 * frame + 7, frame], sigmas)
    assert (np.diff(rows, axis=0) <= 0).all()
    assert (np.diff(rows, axis=1) >= 0).all()
    np.testing.assert_array_equal(staggered(sigmas, 4, 0), np.repeat(sigmas[:, None], 4, 1))


def test_capped_frames_wait_at_their_strength():
    sigmas = sampling_sigmas(10)
    rows = capped(sigmas, np.array([0.0, 0.35, 0.6]))
    np.testing.assert_array_equal(rows[0], np.float32([0.0, 0.35, 0.6]))
    np.testing.assert_array_equal(rows[-1], 0)
    np.testing.assert_array_equal(rows[1:], np.minimum(sigmas[-len(rows) + 1 :, None], rows[0]))
    assert (rows[0] != rows[1]).any()
    np.testing.assert_array_equal(capped(sigmas, np.ones(3)), np.repeat(sigmas[:, None], 3, 1))
    np.testing.assert_array_equal(capped(sigmas, np.zeros(3)), np.zeros((2, 3)))


def test_scaled_frames_start_at_their_strength_and_keep_the_steps():
    sigmas = sampling_sigmas(10, 3.0)
    strength = np.array([0.0, 0.35, 1.0])
    rows = scaled(sigmas, strength, 3.0)
    assert rows.shape == (11, 3)
    np.testing.assert_allclose(rows[0], strength, atol=1e-5)
    np.testing.assert_allclose(rows[:, 2], sigmas, atol=1e-6)
    assert (rows[:, 0] == 0).all()
    assert (np.diff(rows[:, 1:], axis=0) < 0).all()


def test_logit_normal_histogram():
    s = 2.5
    sigma = LogitNormal(mean=0.4, std=1.2, shift=s)(jax.random.key(0), (100_000,))
    assert sigma.dtype == np.float32
    assert ((sigma > 0) & (sigma < 1)).all()
    # The shift multiplies the odds: logit σ is normal again, moved by log s.
    logit = np.log(sigma / (1 - sigma))
    assert logit.mean() == pytest.approx(0.4 + np.log(s), abs=0.02)
    assert logit.std() == pytest.approx(1.2, abs=0.02)

    edges = np.linspace(0.05, 0.95, 19)
    z = (np.log(edges / (1 - edges)) - 0.4 - np.log(s)) / 1.2
    expected = np.array([(1 + erf(a / 2**0.5)) / 2 for a in z])
    measured = (np.asarray(sigma)[:, None] < edges).mean(axis=0)
    np.testing.assert_allclose(measured, expected, atol=0.006)


def test_logit_normal_refuses_nonsense():
    with pytest.raises(ValueError, match="positive"):
        LogitNormal(std=0.0)


@pytest.mark.parametrize("schedule", [sampling_sigmas, dpmpp_sigmas, euler_sigmas])
@pytest.mark.parametrize("s", [1.0, 5.0])
def test_published_levels_fall_from_noise_to_data(schedule, s):
    for steps in (1, 2, 30):
        sigmas = schedule(steps, s)
        assert sigmas.shape == (steps + 1,)
        assert sigmas.dtype == np.float32
        assert (np.diff(sigmas) < 0).all()
        assert sigmas[0] >= shift(0.999, s) - 1e-6
        assert sigmas[-1] == 0
    with pytest.raises(ValueError, match="at least 1"):
        schedule(0)
    with pytest.raises(ValueError, match="positive"):
        schedule(1, 0)


def test_where_the_published_levels_differ():
    np.testing.assert_allclose(dpmpp_sigmas(3), [0.999, 0.666, 0.333, 0], atol=1e-7)
    np.testing.assert_allclose(euler_sigmas(3), [1, 0.5005, 0.001, 0], atol=1e-7)
    # Euler's last level is shifted twice: at its end as a training level, then with the rest.
    np.testing.assert_allclose(euler_sigmas(2, 3.0)[1], shift(shift(0.001, 3.0), 3.0), atol=1e-7)
