"""How parameters are kept: matrices in the dtype asked for, and in float32 what steers or scales others.

Norms, biases, position tables, the modulation and the noise level's embedding are small and sum over many steps and
blocks, as in the published networks, which keep them in float32 too. So is the autoencoder kept, as it is published.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["DTYPES", "keep_as"]

DTYPES = ("float32", "bfloat16", "float16")
NETWORKS_IN_FLOAT32 = ("vae",)
MODULES_IN_FLOAT32 = ("time", "time_modulation")
MATRICES = ("kernel", "embedding")


def keep_as(params: dict[str, Any], dtype: Any) -> dict[str, Any]:
    """A checkpoint's trees with the matrices of the denoiser and the text encoder as `dtype`, all else in float32.

    Raises ValueError for a dtype that isn't one of `DTYPES`.
    """
    asked, steering = jnp.dtype(dtype), jnp.dtype("float32")
    if asked.name not in DTYPES:
        raise ValueError(f"dtype is {asked.name}: choose one of {', '.join(DTYPES)}.")

    def kept(path: tuple[Any, ...], leaf: Any) -> Any:
        keys = [entry.key for entry in path]
        matrix = keys[-1] in MATRICES and not set(keys) & {*NETWORKS_IN_FLOAT32, *MODULES_IN_FLOAT32}
        wanted = asked if matrix else steering
        return leaf if leaf.dtype == wanted else leaf.astype(wanted)

    return jax.tree_util.tree_map_with_path(kept, params)
