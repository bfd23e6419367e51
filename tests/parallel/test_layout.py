"""Convolutions of a clip whose frames lie on different devices, and their gradients, are those of one."""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from sora_jax.models.dit import gated, modulate
from sora_jax.ops.conv import conv2d, conv3d, temporal_conv
from sora_jax.ops.layout import lay_out
from sora_jax.parallel import MeshConfig, make_mesh, spread

CONVOLUTIONS = {
    "3-D": (lambda x, k: conv3d(jnp.pad(x, ((0, 0), (2, 0), (0, 0), (0, 0), (0, 0))), k), (3, 3, 3, 4, 6)),
    "2-D": (conv2d, (3, 3, 4, 6)),
    "half the size": (functools.partial(conv2d, stride=2, padding=((0, 1), (0, 1))), (3, 3, 4, 6)),
    "half the frames": (functools.partial(temporal_conv, stride=2), (3, 4, 6)),
}


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("axes", [{"context": 4, "tensor": 2}, {"context": 8}], ids=str)
def test_a_convolution_of_parts_is_that_of_the_whole(name, axes):
    convolve, shape = CONVOLUTIONS[name]
    rng, mesh = np.random.default_rng(0), make_mesh(MeshConfig(data=1, **axes))
    x, kernel = (rng.standard_normal(size, np.float32) for size in ((2, 9, 8, 6, 4), shape))

    def value_and_gradients(x, kernel):
        def loss(x, kernel):
            y = lay_out(convolve(lay_out(x), kernel))
            return jnp.sum(jnp.sin(y)), y

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(x, kernel)

    def of_parts(x, kernel):
        with spread(mesh):
            return value_and_gradients(x, kernel)

    whole, cut = jax.jit(value_and_gradients)(x, kernel), jax.jit(of_parts)(x, kernel)
    for a, b in zip(jax.tree.leaves(cut), jax.tree.leaves(whole), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())
    assert len(cut[0][1].sharding.device_set) == 8


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
