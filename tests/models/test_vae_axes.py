"""A VAE's latents along the axes that show, against explicit Jacobians, known spectra and the VAE that it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from sora_jax.models.vae import VAE, normalize
from sora_jax.models.vae_axes import along, decoder_metric, principal_axes, reduce_latents

TINY = tiny_model.CONFIG.vae
CHANNELS = TINY.latent_channels


@pytest.fixture(scope="module")
def params():
    """Random, with biases: a new VAE's are zero."""
    return jax.tree.map(jnp.asarray, tiny_model.checkpoint().params["vae"])


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(2).uniform(-1, 1, (6, 5, 16, 16, 3)).astype(np.float32)


def encoded(params, config, clips):
    encode = jax.jit(lambda params, clips: VAE(config).apply({"params": params}, clips, method="encode")[0])
    return np.asarray(encode(params, clips))


def decoded(params, config, z):
    decode = jax.jit(lambda params, z: VAE(config).apply({"params": params}, z, method="decode"))
    return np.asarray(decode(params, z))


def test_the_metric_is_the_mean_of_the_jacobians_squares(params):
    z = np.random.default_rng(0).standard_normal((1, 2, 2, 2, CHANNELS)).astype(np.float32)

    step = 0.01
    moved = step * np.eye(z.size, dtype=np.float32).reshape(-1, *z.shape[1:])
    columns = (decoded(params, TINY, z + moved) - decoded(params, TINY, z - moved)) / (2 * step)
    rows = columns.reshape(z.size, -1).T.reshape(-1, 8, CHANNELS)
    expected = np.einsum("pna,pnb->ab", rows, rows) / 8
    found = decoder_metric(params, TINY, np.repeat(z, 200, axis=0))
    np.testing.assert_allclose(found, expected, atol=0.1 * np.abs(expected).max())


def test_the_axes_are_those_that_show_and_not_those_that_vary():
    rng = np.random.default_rng(0)
    z = rng.standard_normal((4000, 3)) * [10.0, 1.0, 0.5] + [3.0, 0.0, 0.0]
    axes = principal_axes(np.diag([0.0, 4.0, 1.0]), z, 2)
    y = (z - axes.mean) @ axes.down
    assert np.mean(np.square(y)) == pytest.approx(1, rel=1e-3)
    # Shown: 4·1² and 1·0.5²; s ∝ Λ^¼, so the deviations are as 2 to 1, and the first channel is dropped.
    assert y[:, 0].std() / y[:, 1].std() == pytest.approx(2, rel=0.1)
    restored = axes.mean + y @ axes.up
    np.testing.assert_allclose(restored[:, 1:], z[:, 1:], atol=1e-6)
    assert abs(np.corrcoef(restored[:, 0], z[:, 0])[0, 1]) < 0.2


@pytest.mark.parametrize("keep", [0, 3])
def test_more_axes_than_show_are_refused(keep):
    z = np.random.default_rng(0).standard_normal((100, 3))
    with pytest.raises(ValueError, match="from 1 to 2"):
        principal_axes(np.diag([0.0, 4.0, 1.0]), z, keep)


@pytest.fixture(scope="module")
def latents(params, clips):
    return encoded(params, TINY, clips)


@pytest.fixture(scope="module")
def metric(params, latents):
    return decoder_metric(params, TINY, latents)


def test_with_every_axis_kept_it_is_the_same_vae(params, clips, latents, metric):
    axes = principal_axes(metric, latents.reshape(-1, CHANNELS), CHANNELS)
    new, config = along(params, TINY, axes)
    y = encoded(new, config, clips)
    scaled = np.asarray(normalize(jnp.asarray(y), config))
    np.testing.assert_allclose(scaled, (latents - axes.mean) @ axes.down, atol=1e-4)
    np.testing.assert_allclose(decoded(new, config, y), decoded(params, TINY, latents), atol=2e-4)


def test_what_is_left_out_is_what_shows_least(params, clips, latents, metric):
    whole, errors = decoded(params, TINY, latents), {}
    for keep in (1, 3):
        axes = principal_axes(metric, latents.reshape(-1, CHANNELS), keep)
        restored = axes.mean + (latents - axes.mean) @ axes.down @ axes.up
        errors[keep] = np.mean(np.square(decoded(params, TINY, restored.astype(np.float32)) - whole))
    assert errors[3] < errors[1]
    plain = latents.copy()
    plain[..., -1] = latents[..., -1].mean()  # a channel as it comes, left out in place of an axis
    assert errors[3] < np.mean(np.square(decoded(params, TINY, plain) - whole))

    new, config = reduce_latents(params, TINY, clips, 3)
    assert config == dataclasses.replace(
        TINY, latent_channels=3, latent_mean=config.latent_mean, latent_std=(1.0,) * 3
    )
    scaled = np.asarray(normalize(jnp.asarray(encoded(new, config, clips)), config))
    np.testing.assert_allclose(scaled, (latents - axes.mean) @ axes.down, atol=1e-4)
