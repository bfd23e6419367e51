"""A sampler is a time schedule and a stepper; both can be had by name."""

import dataclasses
from collections.abc import Callable

import numpy as np

from sora_jax.diffusion.samplers.ancestral import Ancestral
from sora_jax.diffusion.samplers.dpmpp import DPMSolverPP
from sora_jax.diffusion.samplers.euler import Euler
from sora_jax.diffusion.samplers.heun import Heun
from sora_jax.diffusion.samplers.stepper import Stepper
from sora_jax.diffusion.samplers.unipc import UniPC
from sora_jax.diffusion.schedule import dpmpp_sigmas, euler_sigmas, sampling_sigmas

__all__ = ["SAMPLERS", "Ancestral", "DPMSolverPP", "Euler", "Heun", "Sampler", "Stepper", "UniPC", "sampler"]


@dataclasses.dataclass(frozen=True)
class Sampler:
    """How a run goes from noise to data."""

    stepper: Stepper
    schedule: Callable[[int, float], np.ndarray] = sampling_sigmas
    """Steps and shift -> levels [steps + 1]."""
    whole_timesteps: bool = False
    """Whether the published one tells Wan's networks 1000·σ without its fraction."""


SAMPLERS = {
    "unipc": Sampler(UniPC(), whole_timesteps=True),
    "dpmpp": Sampler(DPMSolverPP(), dpmpp_sigmas, whole_timesteps=True),
    "heun": Sampler(Heun()),
    "euler": Sampler(Euler(), euler_sigmas),
    "ancestral": Sampler(Ancestral()),
}


def sampler(name: str) -> Sampler:
    """The sampler called `name`.

    Raises:
        ValueError: there is none; the message lists those there are.
    """
    if name not in SAMPLERS:
        raise ValueError(f"there is no sampler {name!r}; choose one of {', '.join(SAMPLERS)}")
    return SAMPLERS[name]
