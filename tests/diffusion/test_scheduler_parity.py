"""The samplers against the published schedulers, level by level and step by step on one noise."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import SAMPLERS, start, step

pytestmark = pytest.mark.parity

FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "solver_order": 2}
SCHEDULERS = {
    "unipc": ("UniPCMultistepScheduler", FLOW),
    "dpmpp": ("DPMSolverMultistepScheduler", FLOW),
    "euler": ("FlowMatchEulerDiscreteScheduler", {}),
}


def published(name, steps, s):
    diffusers = pytest.importorskip("diffusers")
    kind, options = SCHEDULERS[name]
    kind = getattr(diffusers, kind)
    shift = "flow_shift" if "flow_shift" in inspect.signature(kind).parameters else "shift"
    scheduler = kind(**options, **{shift: s})
    scheduler.set_timesteps(steps)
    return scheduler


def velocity(np_or_torch, x, sigma):
    return np_or_torch.sin(3 * x) * (1 + sigma) + x


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize(("steps", "s"), [(1, 1.0), (2, 3.0), (10, 5.0), (16, 12.0), (50, 8.0)])
def test_every_step(name, steps, s):
    import torch

    scheduler = published(name, steps, s)
    sigmas = SAMPLERS[name].schedule(steps, s)
    gen = start(jax.random.key(0), (2, 3, 2, 2, 4), sigmas, stepper=SAMPLERS[name].stepper)
    advance = jax.jit(
        functools.partial(step, velocity=lambda x, sigma, _: velocity(jnp, x, sigma[..., None]))
    )
    x = torch.tensor(np.asarray(gen.x))
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x = scheduler.step(velocity(torch, x, float(sigma)), t, x).prev_sample
        gen = advance(gen)
        np.testing.assert_allclose(gen.x, x.numpy(), atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("s", [1.0, 1.1, 3.0, 5.0, 7.0, 8.0, 12.0])
def test_levels_to_the_bit(name, s):
    for steps in (1, 2, 3, 7, 10, 14, 15, 20, 30, 40, 50, 100):
        scheduler = published(name, steps, s)
        np.testing.assert_array_equal(SAMPLERS[name].schedule(steps, s), scheduler.sigmas.numpy())


@pytest.mark.parametrize("name", SCHEDULERS)
@pytest.mark.parametrize("s", [3.0, 5.0, 7.0, 8.0, 12.0])
def test_what_the_network_is_told(name, s):
    """For the shifts in use. At shift 1 some levels are whole but for float64's last bit, which cuts differently."""
    for steps in range(1, 101):
        told = np.float32(1000) * SAMPLERS[name].schedule(steps, s)[:-1]
        told = np.floor(told) if SAMPLERS[name].whole_timesteps else told
        np.testing.assert_array_equal(told, published(name, steps, s).timesteps.numpy())
