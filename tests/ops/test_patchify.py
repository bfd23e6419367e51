import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.ops.patchify import patchify, unpatchify


@pytest.mark.parametrize("patch", [(1, 1, 1), (1, 2, 2), (2, 3, 1), (3, 1, 4)])
def test_unpatchify_undoes_patchify(patch):
    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 8, 5))
    tokens = patchify(x, patch)
    assert tokens.shape == (2, 6 // patch[0], 6 // patch[1], 8 // patch[2], 5 * np.prod(patch))
    np.testing.assert_array_equal(unpatchify(tokens, patch), x)


def test_a_patch_holds_its_own_voxels_channel_fastest():
    x = jnp.arange(2 * 4 * 6 * 3, dtype=jnp.float32).reshape(1, 2, 4, 6, 3)
    token = patchify(x, (2, 2, 3))[0, 0, 1, 1]
    np.testing.assert_array_equal(token, x[0, :, 2:4, 3:6].reshape(-1))


def test_sizes_that_do_not_fit_say_which_do():
    x = jnp.zeros((1, 1, 5, 4, 3))
    with pytest.raises(ValueError, match="5 latent rows is not a multiple of the patch 2: use 4 or 6"):
        patchify(x, (1, 2, 2))
    with pytest.raises(ValueError, match="7 values a patch"):
        unpatchify(jnp.zeros((1, 1, 1, 1, 7)), (1, 2, 2))
