import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jax.sharding import PartitionSpec

from sora_jax.nn.conv import CausalConv3D
from sora_jax.nn.linear import Linear
from sora_jax.parallel import MeshConfig, make_mesh, shardings, spread
from sora_jax.parallel import mesh as mesh_module
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


@dataclasses.dataclass(frozen=True)
class Chip:
    id: int
    slice_index: int
    coords: tuple[int, int, int]
    process_index: int
    platform = "tpu"
    device_kind = "TPU v5p"
    core_on_chip = 0


def slices(count):
    """Slices of 2 x 2 x 2 chips, each slice a process's."""
    places = itertools.product(range(count), range(2), range(2), range(2))
    return [Chip(i, one, (x, y, z), one) for i, (one, z, y, x) in enumerate(places)]


@pytest.mark.parametrize("axes", [{"data": 2, "fsdp": 8}, {"data": 4, "fsdp": 2, "context": 2}], ids=str)
def test_only_the_data_axis_crosses_slices(axes):
    devices = slices(2)
    mesh = make_mesh(MeshConfig(**axes), devices)
    assert set(mesh.devices.flat) == set(devices)
    for copies in mesh.devices:
        assert len({chip.slice_index for chip in copies.flat}) == 1
    assert [copies.flat[0].slice_index for copies in mesh.devices] == sorted([0, 1] * (axes["data"] // 2))


@pytest.mark.parametrize("axes", [{"data": 1, "fsdp": 24}, {"data": 2, "fsdp": 12}], ids=str)
def test_copies_that_would_cross_slices_are_refused(axes):
    with pytest.raises(ValueError, match=rf"data={axes['data']} on 3 slices: .* choose a multiple of 3\."):
        make_mesh(MeshConfig(**axes), slices(3))


def test_a_large_kernel_is_cut_by_what_divides_it(monkeypatch):
    """Six channels on four devices: two parts, and the convolution and its gradients are those of one device."""
    monkeypatch.setattr(mesh_module, "LARGE", 1)
    mesh, layer = make_mesh(MeshConfig(data=1, context=4, tensor=2)), CausalConv3D(6)
    x = np.random.default_rng(0).standard_normal((1, 5, 4, 4, 3), np.float32)
    boxed = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    places = shardings(boxed, mesh)
    assert places["kernel"].shard_shape((3, 3, 3, 3, 6)) == (3, 3, 3, 3, 3)
    params = nn.unbox(layer.init(jax.random.key(0), x))["params"]

    def loss(params, x):
        return jnp.sum(jnp.sin(layer.apply({"params": params}, x)))  # pyright: ignore[reportArgumentType]

    def of_parts(params, x):
        with spread(mesh):
            return jax.grad(loss)(params, x)

    whole = jax.jit(jax.grad(loss))(params, x)
    cut = jax.jit(of_parts, out_shardings=places)(jax.device_put(params, places), x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), cut, whole)
