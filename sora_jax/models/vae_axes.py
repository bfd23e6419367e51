"""The directions in a VAE's latents that its pixels hang on, and a VAE of those alone.

Training gives every channel room, whatever the decoder makes of it. A denoiser then spends its width on directions
that nothing can be seen of. To first order an error δ of one latent costs δᵀMδ of squared pixels, M = E[JᵀJ] with J the
decoder's Jacobian, so with latents of covariance C the axes to keep are the largest eigenvectors of

    M^½ C M^½ = V Λ Vᵀ,    y = (z - E z) M^½ V Λ^-½ diag(s),    s ∝ Λ^¼.

With s = Λ^½ noise on y would be noise of equal size on the pixels, which hides all but the strongest axis; with s = 1
every axis would weigh the same: Λ^¼ lies between. Both maps are linear: they fold into the layers around the latents.
"""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.models.vae import VAE, VAEConfig
from sora_jax.typing import Array, Float

NEVER_SAMPLED = -10.0
"""Log variance that a reduced VAE gives: it is trained and used with the mean."""


class Axes(NamedTuple):
    """y = (z - mean) @ down, and z ≈ mean + y @ up, of latents z [..., c] and y [..., k] of mean square 1."""

    mean: np.ndarray
    down: np.ndarray
    up: np.ndarray


def decoder_metric(params: Any, config: VAEConfig, latents: Float[Array, "b t h w c"], seed: int = 0):
    """M [c, c] = E[JᵀJ] at the latents' own cells, of random pixels pulled back through the decoder (Hutchinson)."""

    @jax.jit
    def pulled_back(params, z, key):
        decode: Any = functools.partial(VAE(config).apply, {"params": params}, method="decode")
        pixels, vjp = jax.vjp(decode, z)
        return vjp(jax.random.normal(key, pixels.shape, pixels.dtype))[0]

    parts = [
        pulled_back(params, z[None], key)
        for z, key in zip(latents, jax.random.split(jax.random.key(seed), len(latents)), strict=True)
    ]
    rows = np.concatenate(
        [np.asarray(part, np.float64).reshape(-1, config.latent_channels) for part in parts]
    )
    return rows.T @ rows / len(rows)


def principal_axes(metric: np.ndarray, latents: np.ndarray, keep: int) -> Axes:
    """The `keep` axes of `latents` [n, c] that show most under `metric` [c, c].

    Raises:
        ValueError: fewer than one, or more than the latents have directions that show at all.
    """
    z = np.asarray(latents, np.float64)
    mean = z.mean(axis=0)
    sizes, directions = np.linalg.eigh(metric)
    root = (directions * np.sqrt(np.maximum(sizes, 0))) @ directions.T
    shown, axes = np.linalg.eigh(root @ np.cov(z.T) @ root)
    shown, axes = shown[::-1], axes[:, ::-1]
    there = int(np.sum(shown > shown[0] * 1e-9))
    if not 1 <= keep <= there:
        raise ValueError(f"{keep} latent channels were asked for: these latents have from 1 to {there}.")
    shown, axes = shown[:keep], axes[:, :keep]
    deviation = shown**0.25 / np.sqrt(np.mean(np.sqrt(shown)))
    down = root @ axes / np.sqrt(shown) * deviation
    # What was dropped and goes with what was kept is filled in again by regression.
    up = np.linalg.lstsq((z - mean) @ down, z - mean, rcond=None)[0]
    return Axes(mean, down, up)


def along(params: Any, config: VAEConfig, axes: Axes) -> tuple[Any, VAEConfig]:
    """The VAE whose latents are those of `params` along `axes`; `normalize` gives them as y.

    The decoder pads its first convolution with zeros where the old one had a constant, so frames' edges change a little
    even where no axis was dropped: train the decoder after it.
    """
    keep = axes.down.shape[1]
    old = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    weights, bias = old["moments"]["kernel"], old["moments"]["bias"]
    c = config.latent_channels
    into = axes.up @ old["unmoments"]["kernel"]
    constant = axes.mean @ old["unmoments"]["kernel"] + old["unmoments"]["bias"]
    # The latents are moved so that as much as can be of the decoder's constant input is zero, as its padding is.
    offset = np.linalg.lstsq(into.T, constant, rcond=None)[0]
    left = constant - offset @ into

    down = weights[:, :c] @ axes.down
    shift = (bias[:c] - axes.mean) @ axes.down + offset
    encoder, decoder = old["encoder"]["conv_out"], old["decoder"]["conv_in"]
    unseen = np.zeros((*encoder["kernel"].shape[:-1], keep))
    new = {
        "encoder": {
            **old["encoder"],
            "conv_out": {
                "kernel": np.concatenate([encoder["kernel"] @ down, unseen], axis=-1),
                "bias": np.concatenate([encoder["bias"] @ down + shift, np.full(keep, NEVER_SAMPLED)]),
            },
        },
        "moments": {"kernel": np.eye(2 * keep), "bias": np.zeros(2 * keep)},
        "unmoments": {"kernel": np.eye(keep), "bias": np.zeros(keep)},
        "decoder": {
            **old["decoder"],
            "conv_in": {
                "kernel": np.einsum("ki,thwio->thwko", into, decoder["kernel"]),
                "bias": decoder["bias"] + np.einsum("i,thwio->o", left, decoder["kernel"]),
            },
        },
    }
    new_config = dataclasses.replace(
        config, latent_channels=keep, latent_mean=tuple(offset.tolist()), latent_std=(1.0,) * keep
    )
    return jax.tree.map(lambda a: jnp.asarray(a, jnp.float32), new), new_config


def reduce_latents(
    params: Any, config: VAEConfig, clips: Float[np.ndarray, "b t h w 3"], keep: int
) -> tuple[Any, VAEConfig]:
    """The VAE with `keep` latent channels: those that show most of `clips`, pixels in [-1, 1].

    Raises:
        ValueError: more channels than the latents have directions that show.
    """
    encode = jax.jit(lambda params, clip: VAE(config).apply({"params": params}, clip, method="encode")[0])
    latents = np.concatenate([np.asarray(encode(params, clip[None])) for clip in clips])
    metric = decoder_metric(params, config, jnp.asarray(latents))
    return along(params, config, principal_axes(metric, latents.reshape(-1, config.latent_channels), keep))
