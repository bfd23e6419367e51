"""A denoiser that goes on with another VAE's latents: the maps between both fold into its first and its last layer."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from sora_jax.typing import Array, Float


def latent_maps(
    old: Float[np.ndarray, "n c"], new: Float[np.ndarray, "n k"]
) -> tuple[Float[np.ndarray, "k c"], Float[np.ndarray, "c k"]]:
    """(B, P) with old ≈ new @ B and new ≈ old @ P, by least squares; both are normalised latents of the same cells."""
    old, new = np.asarray(old, np.float64), np.asarray(new, np.float64)
    return np.linalg.lstsq(new, old, rcond=None)[0], np.linalg.lstsq(old, new, rcond=None)[0]


def turned(
    params: dict[str, Any], into: Float[np.ndarray, "k c"], out_of: Float[np.ndarray, "c k"]
) -> dict[str, Any]:
    """The denoiser of latents with k channels that computes what `params` does of latents with c."""
    c, k = out_of.shape

    def per_cell(array: Array, *shape: int) -> np.ndarray:
        return np.asarray(array, np.float64).reshape(shape)

    first, head = params["patch_embedding"], params["head"]
    width = first["kernel"].shape[-1]
    kernels = {
        "patch_embedding": per_cell(first["kernel"], -1, c, width),
        "head": per_cell(head["kernel"], width, -1, c),
    }
    cells = kernels["head"].shape[1]
    new = {
        "patch_embedding": {
            **first,
            "kernel": np.einsum("kc,pcd->pkd", into, kernels["patch_embedding"]).reshape(cells * k, width),
        },
        "head": {
            "kernel": (kernels["head"] @ out_of).reshape(width, cells * k),
            "bias": (per_cell(head["bias"], cells, c) @ out_of).reshape(cells * k),
        },
    }
    single = {
        name: {leaf: jnp.asarray(a, jnp.float32) for leaf, a in layer.items()} for name, layer in new.items()
    }
    return {**params, **single}
