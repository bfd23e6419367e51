"""A VAE encoding and decoding clips of random pixels, whole, with random weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.evals.bench.record import Measure, Peak
from sora_jax.evals.bench.sizes import random_params
from sora_jax.evals.bench.timing import Effort, compiled, interleaved, measured
from sora_jax.models.vae import VAE, VAEConfig
from sora_jax.train.flops import count_flops
from sora_jax.weights.shapes import parameter_tree

__all__ = ["measure", "vae_functions"]


def vae_functions(config: VAEConfig, dtype: str = "float32"):
    """(encode, decode): pixels [b, t, h, w, 3] in [-1, 1] to the mean, and raw latents to pixels in [-1, 1]."""
    network = VAE(config, jnp.dtype(dtype))

    def encode(params, pixels):
        return network.apply({"params": params}, pixels, method="encode")[0]

    def decode(params, latents):
        return jnp.clip(network.apply({"params": params}, latents, method="decode"), -1.0, 1.0)  # pyright: ignore

    return encode, decode


def measure(
    config: VAEConfig,
    *,
    batch_size: int,
    size: tuple[int, int],
    frames: int,
    dtype: str = "float32",
    effort: Effort,
    peak: Peak | None,
) -> list[Measure]:
    """Both directions. Raises ValueError for a size (height, width) or frames that the VAE doesn't code."""
    latent = config.latent_shape(frames, *size)
    params = jax.device_put(random_params(parameter_tree(config)))
    rng = np.random.default_rng(0)
    inputs = {
        "encode": jax.device_put(np.tanh(rng.standard_normal((batch_size, frames, *size, 3), np.float32))),
        "decode": jax.device_put(rng.standard_normal((batch_size, *latent), np.float32)),
    }
    functions = dict(zip(inputs, vae_functions(config, dtype), strict=True))
    programs = {
        name: compiled(jax.jit(function), params, inputs[name]) for name, function in functions.items()
    }
    runs = {name: functools.partial(programs[name].call, params, inputs[name]) for name in programs}
    times = interleaved(runs, effort, peak=True)
    each = {
        "clips": batch_size,
        "frames": batch_size * frames,
        "pixels": batch_size * frames * size[0] * size[1],
    }
    return [
        measured(
            f"VAE {name}",
            seconds=times[name],
            each=each,
            flops=count_flops(functions[name], params, inputs[name]),
            peak=peak,
            program=programs[name],
        )
        for name in programs
    ]
