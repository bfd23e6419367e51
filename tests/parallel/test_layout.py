"""Convolutions of a clip whose frames and rows lie on different devices, and their gradients, are those of one."""

import functools
import math
import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sora_jax.models.dit import gated, modulate
from sora_jax.models.vae import VAE
from sora_jax.ops.conv import conv2d, conv3d, temporal_conv
from sora_jax.ops.layout import lay_out
from sora_jax.parallel import MeshConfig, make_mesh, spread

CONVOLUTIONS = {
    "3-D": (lambda x, k: conv3d(jnp.pad(x, ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0))), k), (3, 3, 3, 4, 6)),
    "2-D": (conv2d, (3, 3, 4, 6)),
    "half the size": (functools.partial(conv2d, stride=2, padding=((0, 1), (0, 1))), (3, 3, 4, 6)),
    "half the frames": (functools.partial(temporal_conv, stride=2), (3, 4, 6)),
}


# Devices, frames and rows of a clip, and how many of each one device has.
PARTS = [
    ({"context": 4, "tensor": 2}, (9, 8), (3, 4)),
    ({"context": 4, "tensor": 2}, (3, 16), (3, 2)),
    ({"context": 4, "tensor": 2}, (1, 12), (1, 3)),
    ({"fsdp": 2, "tensor": 4}, (9, 8), (9, 2)),
    ({"context": 8}, (9, 6), (2, 6)),
    ({"context": 8}, (3, 6), (3, 6)),
]


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize(("axes", "size", "own"), PARTS, ids=str)
def test_a_convolution_of_parts_is_that_of_the_whole(name, axes, size, own):
    convolve, shape = CONVOLUTIONS[name]
    rng, mesh = np.random.default_rng(0), make_mesh(MeshConfig(data=1, **axes))
    x, kernel = (rng.standard_normal(n, np.float32) for n in ((2, *size, 6, 4), shape))

    def value_and_gradients(x, kernel):
        def loss(x, kernel):
            x = lay_out(x)
            y = lay_out(convolve(x, kernel))
            return jnp.sum(jnp.square(y)), (x, y)

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, kernel)

    def of_parts(x, kernel):
        with spread(mesh):
            return value_and_gradients(x, kernel)

    program = jax.jit(of_parts).lower(x, kernel).compile()
    whole, cut = jax.jit(value_and_gradients)(x, kernel), program(x, kernel)
    for a, b in zip(jax.tree.leaves(cut), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max(initial=0))
    clips = 2 // axes.get("fsdp", 1)
    assert f"f32[{clips},{','.join(map(str, own))},6,4]" in (program.as_text() or "")


AUTOENCODER = VAE(tiny_model.CONFIG.vae)
FAST = {"xla_backend_optimization_level": 0}
# Devices; frames, height and width in pixels; clips, frames and rows that a device has of the finest features.
CLIPS = [
    ({"context": 4}, (1, 32, 16), (2, 1, 2)),
    ({"context": 4}, (9, 32, 16), (2, 3, 8)),
    ({"tensor": 4}, (5, 32, 16), (2, 5, 2)),
    ({"context": 2, "tensor": 2}, (5, 32, 16), (2, 3, 4)),
    ({"context": 2, "tensor": 2}, (5, 24, 16), (2, 3, 3)),  # of three rows of latents
    ({"fsdp": 2, "context": 2, "tensor": 2}, (9, 32, 16), (1, 5, 4)),
    ({"context": 2, "tensor": 4}, (1, 64, 16), (2, 1, 2)),
]


def assert_coded_as_on_one_device(axes, size, own):
    """Latents, pixels and their gradients, of two clips; no device has all of the finest features."""
    params = tiny_model.checkpoint().params["vae"]
    x = np.random.default_rng(0).standard_normal((2, *size, 3), np.float32)
    devices = jax.devices()[: math.prod(axes.values())]
    mesh = make_mesh(MeshConfig(data=1, **axes), devices)

    def value_and_gradients(params, x):
        def loss(params, x):
            coded: Any = AUTOENCODER.apply({"params": params}, x)
            return sum(jnp.mean(jnp.square(part)) for part in coded), coded

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(params, x)

    def of_parts(params, x):
        with spread(mesh):
            return value_and_gradients(params, x)

    program = jax.jit(of_parts, compiler_options=FAST).lower(params, x).compile()
    whole = jax.jit(value_and_gradients, compiler_options=FAST)(params, x)
    for a, b in zip(jax.tree.leaves(program(params, x)), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    (t, h, w), text = size, program.as_text() or ""
    for clips, frames, rows in (own, (2, t, h // 4)):
        there = f"f32[{clips},{frames},{rows},{w // 4},{AUTOENCODER.config.base_width}]" in text
        assert there == ((clips, frames, rows) == own)


@pytest.mark.slow
def test_an_image_is_coded_in_parts_as_on_one_device():
    assert_coded_as_on_one_device({"context": 2, "tensor": 2}, (1, 32, 8), (2, 1, 2))


@pytest.mark.slow
@pytest.mark.parametrize(("axes", "size", "own"), CLIPS, ids=str)
def test_a_clip_is_coded_in_parts_as_on_one_device(axes, size, own):
    assert_coded_as_on_one_device(axes, size, own)


def test_tokens_stay_where_they_are_while_levels_steer_them():
    """Sixteen tokens a level and ten a device: most cuts fall within a level."""
    rng, mesh = np.random.default_rng(0), make_mesh(MeshConfig(data=1, context=8))
    x = rng.standard_normal((1, 80, 6), np.float32)
    levels = rng.standard_normal((3, 1, 5, 6), np.float32)

    def gradients(x, levels):
        def loss(x, levels):
            shift, scale, gate = levels
            return jnp.sum(jnp.sin(gated(x, modulate(x, shift, scale), gate)))

        return jax.value_and_grad(loss, argnums=(0, 1))(x, levels)

    def of_parts(x, levels):
        with spread(mesh):
            return gradients(x, levels)

    whole = jax.jit(gradients)(x, levels)
    cut_x = jax.device_put(x, NamedSharding(mesh, P(None, "context")))
    program = jax.jit(of_parts).lower(cut_x, levels).compile()
    text = program.as_text() or ""
    assert "all-reduce" in text
    assert not re.search("all-gather|all-to-all|collective-permute", text)
    cut = program(cut_x, levels)
    for a, b in zip(jax.tree.leaves(cut), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
