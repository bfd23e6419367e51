"""Which weights these are, told in a moment: a digest of names, shapes and a thousand numbers of each array."""

import hashlib
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

SAMPLED = 1024


def fingerprint(params: Any) -> str:
    """Sixteen hexadecimal digits; weights that were trained on, cast or merged have others.

    Only evenly spaced numbers are read, so that billions of them take no time: a change to single numbers in a large
    array can be missed.
    """
    digest = hashlib.sha256()
    for path, leaf in sorted(flatten_dict(params, sep="/").items()):
        array = np.asarray(leaf)
        digest.update(f"{path} {array.dtype} {array.shape}".encode())
        flat = array.reshape(-1)
        digest.update(np.ascontiguousarray(flat[:: max(1, flat.size // SAMPLED)]).tobytes())
    return digest.hexdigest()[:16]
