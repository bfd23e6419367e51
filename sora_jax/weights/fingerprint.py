"""Which weights these are, told in a moment: a digest of names, shapes and a thousand numbers of each array."""

import functools
import hashlib
from typing import Any

import jax
import numpy as np
from flax.traverse_util import flatten_dict
from jax import lax
from jax.sharding import NamedSharding, PartitionSpec

SAMPLED = 1024


def fingerprint(params: Any) -> str:
    """Sixteen hexadecimal digits; weights that were trained on, cast or merged have others.

    Only evenly spaced numbers are read, so that billions of them take no time: a change to single numbers in a large
    array can be missed. Parameters may be cut over devices, of several processes too: no more than those numbers is
    sent, and the answer is the same.
    """
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten_dict(params, sep="/").items()):
        digest.update(f"{path} {leaf.dtype} {leaf.shape}".encode())
        spaced = np.arange(0, leaf.size, max(1, leaf.size // SAMPLED))
        places = np.unravel_index(spaced, leaf.shape) if leaf.shape else ()
        if isinstance(leaf, jax.Array) and isinstance(leaf.sharding, NamedSharding):
            everywhere = NamedSharding(leaf.sharding.mesh, PartitionSpec())
            numbers = np.asarray(_bits(leaf, tuple(place.astype(np.int32) for place in places), everywhere))
        else:
            numbers = np.asarray(leaf)[places]
        digest.update(np.ascontiguousarray(numbers).tobytes())
    return digest.hexdigest()[:16]


@functools.partial(jax.jit, static_argnames="everywhere")
def _bits(leaf: jax.Array, places: tuple[np.ndarray, ...], everywhere: NamedSharding) -> jax.Array:
    """The numbers at these places as their bits, which a sum over devices leaves as they are (that of -0.0 is 0.0)."""
    bits = lax.bitcast_convert_type(leaf, f"uint{8 * leaf.dtype.itemsize}")
    return lax.with_sharding_constraint(bits[places], everywhere)
