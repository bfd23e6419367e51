import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from sora_jax.parallel import MeshConfig, make_mesh
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


def test_weights_on_a_mesh_have_the_fingerprint_that_they_have_on_the_host():
    mesh, rng = make_mesh(MeshConfig(data=1, fsdp=2, tensor=4)), np.random.default_rng(0)
    params = {"a": {"kernel": rng.standard_normal((6, 100, 44), np.float32)}, "b": np.float32(3)}
    params["a"]["kernel"][:, ::7] = -0.0
    cut = PartitionSpec(None, "fsdp", "tensor")
    placed = {
        "a": {"kernel": jax.device_put(params["a"]["kernel"], NamedSharding(mesh, cut))},
        "b": jax.device_put(params["b"], NamedSharding(mesh, PartitionSpec())),
    }
    assert fingerprint(placed) == fingerprint(params)
