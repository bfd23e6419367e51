"""A denoiser turned to another VAE's latents, against the one that it was."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import tiny_model

from sora_jax.models.dit import DiT
from sora_jax.models.dit_axes import latent_maps, turned
from sora_jax.weights import abstract_params

OLD = dataclasses.replace(tiny_model.CONFIG.dit, patch=(1, 2, 2))
NEW = dataclasses.replace(OLD, in_channels=3, out_channels=3)


def velocity(config, params, x):
    text = jnp.ones((1, 2, config.text_width))
    return np.asarray(DiT(config).apply({"params": params}, jnp.asarray(x), jnp.full(1, 300.0), text))


def test_a_turned_denoiser_computes_what_it_did():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 2, 4, 4, 3)).astype(np.float32)
    into, out_of = rng.standard_normal((3, 6)), rng.standard_normal((6, 3))
    shapes = abstract_params(dataclasses.replace(tiny_model.CONFIG, dit=OLD))["dit"]
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)
    expected = velocity(OLD, params, (x @ into).astype(np.float32)) @ out_of
    found = velocity(NEW, turned(params, into, out_of), x)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_maps_between_latents_of_one_space_are_inverse():
    rng = np.random.default_rng(0)
    new, matrix = rng.standard_normal((500, 3)), rng.standard_normal((3, 6))
    into, out_of = latent_maps(new @ matrix, new)
    np.testing.assert_allclose(into, matrix, atol=1e-8)
    np.testing.assert_allclose(into @ out_of, np.eye(3), atol=1e-8)
