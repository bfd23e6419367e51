"""Rectified flow with a noise level for every token: training draws, guidance, samplers, generations."""

from sora_jax.diffusion.cache import (
    FirstBlock,
    MagCache,
    StepCache,
    TeaCache,
    cached,
    magnitude_ratios,
    step_cache,
)
from sora_jax.diffusion.conditions import PerStep, at_step
from sora_jax.diffusion.flow import data_from_velocity, flow_loss, interpolate, noise_from_velocity, velocity
from sora_jax.diffusion.generation import Generation, finish, forget, prepare, remask, run, start, step
from sora_jax.diffusion.guidance import Guided, Mixed, guide, interval, mix, ramp
from sora_jax.diffusion.levels import TEXT_TO_VIDEO, LevelMix, draw_batch, draw_levels, draw_unknown
from sora_jax.diffusion.samplers import SAMPLERS, DPMSolverPP, Euler, Heun, Sampler, Stepper, UniPC, sampler
from sora_jax.diffusion.saved import restore, save
from sora_jax.diffusion.schedule import (
    LogitNormal,
    capped,
    dpmpp_sigmas,
    euler_sigmas,
    sampling_sigmas,
    scaled,
    shift,
    staggered,
)

__all__ = [
    "SAMPLERS",
    "TEXT_TO_VIDEO",
    "DPMSolverPP",
    "Euler",
    "FirstBlock",
    "Generation",
    "Guided",
    "Heun",
    "LevelMix",
    "LogitNormal",
    "MagCache",
    "Mixed",
    "PerStep",
    "Sampler",
    "StepCache",
    "Stepper",
    "TeaCache",
    "UniPC",
    "at_step",
    "cached",
    "capped",
    "data_from_velocity",
    "dpmpp_sigmas",
    "draw_batch",
    "draw_levels",
    "draw_unknown",
    "euler_sigmas",
    "finish",
    "flow_loss",
    "forget",
    "guide",
    "interpolate",
    "interval",
    "magnitude_ratios",
    "mix",
    "noise_from_velocity",
    "prepare",
    "ramp",
    "remask",
    "restore",
    "run",
    "sampler",
    "sampling_sigmas",
    "save",
    "scaled",
    "shift",
    "staggered",
    "start",
    "step",
    "step_cache",
    "velocity",
]
