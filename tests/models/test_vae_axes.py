"""A VAE's latents along the axes that show, against explicit Jacobians, known spectra and the VAE that it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from sora_jax.models.vae import VAE, normalize
from sora_jax.models.vae_axes import along, decoder_metric, principal_axes, reduce_latents

TINY = dataclasses.replace(tiny_model.CONFIG.vae, latent_channels=4)


@pytest.fixture(scope="module")
def params():
    """Random, with biases: a new VAE's are zero."""
    made = VAE(TINY).init(jax.random.key(0), jnp.zeros((1, 3, 16, 16, 3)))["params"]
    leaves, tree = jax.tree.flatten(jax.tree.map(lambda a: a.value if hasattr(a, "value") else a, made))
    keys = jax.random.split(jax.random.key(1), len(leaves))
    return jax.tree.unflatten(
        tree, [a + 0.1 * jax.random.normal(k, a.shape) for a, k in zip(leaves, keys, strict=True)]
    )


@pytest.fixture(scope="module")
def clips():
    return np.random.default_rng(2).uniform(-1, 1, (6, 5, 16, 16, 3)).astype(np.float32)


def encoded(params, config, clips):
    return np.asarray(VAE(config).apply({"params": params}, clips, method="encode")[0])


def decoded(params, config, z):
    return np.asarray(VAE(config).apply({"params": params}, z, method="decode"))


def test_the_metric_is_the_mean_of_the_jacobians_squares(params):
    z = np.random.default_rng(0).standard_normal((1, 2, 2, 2, 4)).astype(np.float32)
    jacobian = np.asarray(jax.jacobian(lambda z: VAE(TINY).apply({"params": params}, z, method="decode"))(z))
    rows = jacobian.reshape(-1, 8, 4)
    expected = np.einsum("pna,pnb->ab", rows, rows) / 8
    found = np.mean(
        [decoder_metric(params, TINY, np.repeat(z, 50, axis=0), seed) for seed in range(4)], axis=0
    )
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


def test_with_every_axis_kept_it_is_the_same_vae(params, clips):
    z = encoded(params, TINY, clips)
    axes = principal_axes(decoder_metric(params, TINY, z), z.reshape(-1, 4), 4)
    new, config = along(params, TINY, axes)
    y = encoded(new, config, clips)
    np.testing.assert_allclose(np.asarray(normalize(y, config)), (z - axes.mean) @ axes.down, atol=1e-4)
    np.testing.assert_allclose(decoded(new, config, y), decoded(params, TINY, z), atol=2e-4)


def test_what_is_left_out_is_what_shows_least(params, clips):
    z = encoded(params, TINY, clips)
    whole, errors = decoded(params, TINY, z), {}
    for keep in (1, 2, 3):
        new, config = reduce_latents(params, TINY, clips, keep)
        assert config == dataclasses.replace(
            TINY, latent_channels=keep, latent_mean=config.latent_mean, latent_std=(1.0,) * keep
        )
        errors[keep] = np.mean(np.square(decoded(new, config, encoded(new, config, clips)) - whole))
    assert errors[3] < errors[2] < errors[1]
    plain = z.copy()
    plain[..., -1] = z[..., -1].mean()  # a channel as it comes, left out in place of an axis
    assert errors[3] < np.mean(np.square(decoded(params, TINY, plain) - whole))
