"""Noise levels in training and along a sampling run, as data.

    shift (arXiv 2403.03206, section 5.3.2):    σ' = s·σ / (1 + (s - 1)·σ)
    logit-normal training levels:               logit σ ~ N(mean, std²), then shifted

More tokens need more noise to hide the same structure; s > 1 spends more of the run at high σ.
A sampling schedule is an array `sigmas` of shape [steps + 1], or [steps + 1, t] where frames have their own.
"""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.typing import Array, Float, PRNGKeyArray, typed

# The published schedulers end their linspace at 1/1000 of 1000 training steps, and UniPC's keeps σ off 1, where
# log(1 - σ) is infinite (diffusers' schedulers, with flow sigmas).
TRAINING_STEPS = 1000
BELOW_ONE = 1e-6


def shift(sigma, s):
    """σ' = s·σ / (1 + (s - 1)·σ), for σ in [0, 1] and s > 0. `shift(·, 1 / s)` undoes it."""
    return s * sigma / (1 + (s - 1) * sigma)


def _check(steps, s):
    if steps < 1:
        raise ValueError(f"{steps} sampling steps were asked for; ask for at least 1")
    if not s > 0:
        raise ValueError(f"the shift is {s}; it must be positive (1 leaves the levels as they are)")


def _to_zero(sigmas):
    return np.append(sigmas, 0).astype(np.float32)


@typed
def sampling_sigmas(steps: int, s: float | int = 1.0) -> Float[np.ndarray, "levels"]:
    """The levels of a sampling run as Wan's UniPC has them: float32 [steps + 1], from 1 - 1e-6 to 0.

    Raises:
        ValueError: `steps` is below 1, or the shift `s` isn't positive.
    """
    _check(steps, s)
    sigmas = shift(np.linspace(1, 1 / TRAINING_STEPS, steps + 1)[:-1], s)
    return _to_zero(np.minimum(sigmas, 1 - BELOW_ONE))


@typed
def dpmpp_sigmas(steps: int, s: float | int = 1.0) -> Float[np.ndarray, "levels"]:
    """As `sampling_sigmas`, of the published DPM-Solver++: equal parts of [0, 0.999], shifted."""
    _check(steps, s)
    sigmas = shift(1 - np.linspace(1, 1 / TRAINING_STEPS, steps + 1), s)
    return _to_zero(sigmas[:0:-1])


@typed
def euler_sigmas(steps: int, s: float | int = 1.0) -> Float[np.ndarray, "levels"]:
    """As `sampling_sigmas`, of the published Euler: from 1 to the least training level, shifted twice at that end."""
    _check(steps, s)
    # The ends are shifted in float32, and all levels between them again in float64: so it is published.
    ends = np.asarray([1, 1 / TRAINING_STEPS], np.float32)
    most, least = shift(ends, np.float32(s)).astype(np.float64) * TRAINING_STEPS
    return _to_zero(shift(np.linspace(most, least, steps) / TRAINING_STEPS, s))


@typed
def staggered(sigmas: Float[np.ndarray, "levels"], frames: int, delay: int) -> Float[np.ndarray, "rows t"]:
    """Frame f runs the schedule `delay`·f steps late: levels rise along time (diffusion forcing, 2407.01392).

    Returns [steps + delay·(frames - 1) + 1, frames]; a frame waits at the first level and rests at the last.
    """
    steps = len(sigmas) - 1
    rows = np.arange(steps + delay * (frames - 1) + 1)[:, None]
    return sigmas[np.clip(rows - delay * np.arange(frames)[None], 0, steps)]


@typed
def capped(
    sigmas: Float[np.ndarray, "levels"], strength: Float[np.ndarray, "t"]
) -> Float[np.ndarray, "rows t"]:
    """Frame f starts at level `strength[f]` in [0, 1] and waits for the schedule to come down to it.

    SDEdit (arXiv 2108.01073) with a strength per frame. Rows where every frame would wait are left out.
    """
    rows = np.minimum(sigmas[:, None], strength.astype(np.float32)[None])
    moving = np.flatnonzero((rows[:-1] != rows[1:]).any(axis=1))
    return rows[moving[0] :] if len(moving) else rows[-2:]


@typed
def scaled(
    sigmas: Float[np.ndarray, "levels"], strength: Float[np.ndarray, "t"], s: float | int = 1.0
) -> Float[np.ndarray, "levels t"]:
    """Frame f runs from level `strength[f]` in [0, 1] to 0 in as many steps as `sigmas`, which has shift `s`.

    As `capped`, but of a shape that doesn't depend on the strengths, and with all of its steps well spent.
    """
    plain = shift(sigmas.astype(np.float64)[:, None], 1 / s) * shift(strength.astype(np.float64)[None], 1 / s)
    return shift(plain, s).astype(np.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogitNormal:
    """Training levels: σ = shift(sigmoid(mean + std·n), s) with n ~ N(0, 1)."""

    mean: float = 0.0
    std: float = 1.0
    shift: float = 1.0

    def __post_init__(self):
        if not (self.std > 0 and self.shift > 0):
            raise ValueError(f"std is {self.std} and shift {self.shift}; both must be positive")

    def __call__(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "..."]:
        """Independent levels of `shape`, float32 in (0, 1)."""
        n = jax.random.normal(key, shape, jnp.float32)
        return shift(jax.nn.sigmoid(self.mean + self.std * n), self.shift)
