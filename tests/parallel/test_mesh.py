import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from sora_jax.nn.linear import Linear
from sora_jax.parallel import MeshConfig, make_mesh, shardings
from sora_jax.parallel.mesh import mesh_of


def test_one_axis_takes_the_devices_that_are_left():
    mesh = make_mesh(MeshConfig(data=-1, fsdp=2))
    assert dict(mesh.shape) == {"data": 4, "fsdp": 2, "context": 1, "tensor": 1}


def test_meshes_that_don_t_multiply_out_are_refused():
    with pytest.raises(ValueError, match="there are 8"):
        make_mesh(MeshConfig(data=3))
    with pytest.raises(ValueError, match="at most one"):
        MeshConfig(data=-1, fsdp=-1)


def test_shards_are_devices_of_the_tensor_axis():
    assert mesh_of(1) is None
    mesh = mesh_of(4)
    assert mesh is not None
    assert dict(mesh.shape) == {"data": 1, "fsdp": 1, "context": 1, "tensor": 4}
    for wrong in (0, 9):
        with pytest.raises(ValueError, match=f"shards is {wrong} and must be from 1 to the 8"):
            mesh_of(wrong)


def test_logical_axes_become_mesh_axes():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, tensor=2))
    layer = Linear(16, ("embed", "mlp"))
    abstract = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 8)))
    kernel = shardings(abstract, mesh)["params"]["kernel"]
    assert kernel.spec == PartitionSpec(("fsdp", "context"), "tensor")
    values = jax.jit(
        lambda: nn.unbox(layer.init(jax.random.key(0), jnp.zeros((1, 8)))),
        out_shardings=shardings(abstract, mesh),
    )()
    assert values["params"]["kernel"].addressable_shards[0].data.shape == (4, 8)
