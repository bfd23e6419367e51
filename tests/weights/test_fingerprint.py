import jax
import numpy as np

from sora_jax.weights.fingerprint import fingerprint


def test_other_weights_have_another_fingerprint():
    rng = np.random.default_rng(0)
    params = {"a": {"kernel": rng.standard_normal((100, 300))}, "b": np.zeros(3)}
    first = fingerprint(params)
    assert first == fingerprint(jax.tree.map(np.copy, params))
    assert len(first) == 16
    others = [
        {"a": params["a"]},
        {**params, "c": np.zeros(3)},
        {**params, "b": np.float32(params["b"])},
        {**params, "b": np.zeros((3, 1))},
        {**params, "a": {"kernel": params["a"]["kernel"] + 1e-12}},
    ]
    assert len({first, *map(fingerprint, others)}) == 6
