"""How parameters are kept: matrices in the dtype asked for or in 8 bits, and in float32 what steers or scales others.

Norms, biases, position tables, the modulation and the noise level's embedding are small and sum over many steps and
blocks, as in the published networks, which keep them in float32 too. So is the autoencoder kept, as it is published.
"""

from typing import Any

import jax
import jax.numpy as jnp

__all__ = ["DTYPES", "QUANTIZED", "keep_as", "quantize"]

DTYPES = ("float32", "bfloat16", "float16")
QUANTIZED = {"int8": "int8", "fp8": "float8_e4m3fn"}
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
        if hasattr(leaf, "qvalue"):
            return leaf
        keys = [entry.key for entry in path]
        matrix = keys[-1] in MATRICES and not set(keys) & {*NETWORKS_IN_FLOAT32, *MODULES_IN_FLOAT32}
        wanted = asked if matrix else steering
        return leaf if leaf.dtype == wanted else leaf.astype(wanted)

    return jax.tree_util.tree_map_with_path(kept, params, is_leaf=lambda node: hasattr(node, "qvalue"))


def quantize(params: dict[str, Any], kind: str) -> dict[str, Any]:
    """A checkpoint's trees with the matrices of the denoiser's and the text encoder's blocks in 8 bits.

    Weights only: round(w / s) with s = max |w| / the type's largest, one for each output of each block (qwix's
    `QArray`); products are in the compute dtype. Raises ValueError for a kind that isn't int8 or fp8, or without qwix.
    """
    if kind not in QUANTIZED:
        raise ValueError(f"weights can't be quantized to {kind!r}: choose one of {', '.join(QUANTIZED)}.")
    try:
        import qwix
    except ImportError as error:
        raise ValueError("weights of 8 bits need qwix: pip install 'sora_jax[quantize]'.") from error

    def small(path: tuple[Any, ...], leaf: Any) -> Any:
        keys = [entry.key for entry in path]
        if keys[0] in NETWORKS_IN_FLOAT32 or "blocks" not in keys or keys[-1] != "kernel":
            return leaf
        values = jnp.asarray(leaf, jnp.float32)
        return qwix.quantize(values, QUANTIZED[kind], channelwise_axes=(0, values.ndim - 1))

    return jax.tree_util.tree_map_with_path(small, params)
