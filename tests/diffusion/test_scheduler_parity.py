"""The multistep samplers against the published schedulers, step by step on one noise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.diffusion import DPMSolverPP, UniPC, sampling_sigmas, start, step

pytestmark = pytest.mark.parity


def compare(scheduler, sigmas, stepper):
    import torch

    def model(np_or_torch, x, sigma):
        return np_or_torch.sin(3 * x) * (1 + sigma) + x

    gen = start(jax.random.key(0), (2, 3, 2, 2, 4), sigmas, stepper=stepper)
    advance = jax.jit(
        functools.partial(step, velocity=lambda x, sigma, cond: model(jnp, x, sigma[..., None]))
    )
    x = torch.tensor(np.asarray(gen.x))
    for t, sigma in zip(scheduler.timesteps, sigmas, strict=False):
        x = scheduler.step(model(torch, x, float(sigma)), t, x).prev_sample
        gen = advance(gen)
        np.testing.assert_allclose(gen.x, x.numpy(), atol=1e-5 * float(x.abs().max()))


@pytest.mark.parametrize(("steps", "s"), [(1, 1.0), (2, 3.0), (10, 5.0), (50, 8.0)])
def test_unipc(steps, s):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.UniPCMultistepScheduler(
        prediction_type="flow_prediction",
        use_flow_sigmas=True,
        flow_shift=s,
        solver_order=2,
        lower_order_final=True,
    )
    scheduler.set_timesteps(steps)
    sigmas = sampling_sigmas(steps, s)
    np.testing.assert_array_equal(sigmas, scheduler.sigmas.numpy())
    compare(scheduler, sigmas, UniPC())


@pytest.mark.parametrize(("steps", "s"), [(1, 1.0), (10, 5.0), (30, 3.0)])
def test_dpmpp(steps, s):
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=s, solver_order=2
    )
    scheduler.set_timesteps(steps)
    compare(scheduler, scheduler.sigmas.numpy(), DPMSolverPP())
