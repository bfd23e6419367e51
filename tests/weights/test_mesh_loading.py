"""Parameters go straight to their places on a mesh, and the host holds little at a time."""

import tracemalloc

import jax
import numpy as np
import pytest
import tiny_wan
from flax import traverse_util
from jax.sharding import PartitionSpec
from safetensors.numpy import save_file

import sora_jax as sora
from sora_jax.models.dit import DiTConfig
from sora_jax.parallel.mesh import MeshConfig, make_mesh, place
from sora_jax.weights import TensorFile, load, parameter_shardings, save, save_diffusers
from sora_jax.weights import layout as layout_module
from sora_jax.weights.diffusers_dit import dit_leaves
from sora_jax.weights.layout import gather, published_shapes

MESH = {"data": 1, "fsdp": 2, "tensor": 4}


@pytest.fixture(scope="module")
def mesh():
    return make_mesh(MeshConfig(**MESH))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    made = tiny_wan.checkpoint("image tokens")
    return save_diffusers(tmp_path_factory.mktemp("mesh") / "wan", made.config, made.params, made.tokenizer)


def test_each_parameter_lies_where_the_table_says_and_is_whole(mesh, folder, tmp_path):
    whole, native = load(folder), tmp_path / "native"
    save(native, whole, dtype=None)
    for source in (folder, native):
        placed = load(source, mesh=mesh)
        jax.tree.map(np.testing.assert_array_equal, placed.params, whole.params)
    flat = {
        path: leaf.sharding.spec for path, leaf in traverse_util.flatten_dict(placed.params, sep="/").items()
    }
    assert flat["dit/blocks/self_attention/query/kernel"] == PartitionSpec(
        None, ("fsdp", "context"), "tensor"
    )
    assert flat["dit/blocks/ffn_out/kernel"] == PartitionSpec(None, "tensor", ("fsdp", "context"))
    assert flat["dit/patch_embedding/kernel"] == PartitionSpec(None, ("fsdp", "context"))
    assert flat["text/embedding"] == PartitionSpec("tensor", ("fsdp", "context"))
    assert flat["text/blocks/ffn/gate/kernel"] == PartitionSpec(None, ("fsdp", "context"), "tensor")
    assert flat["image/blocks/query/kernel"] == PartitionSpec(None, ("fsdp", "context"), "tensor")
    # 3 channels of pixels: two devices can't share them.
    assert flat["vae/decoder/conv_out/bias"] == PartitionSpec(None)
    shard = placed.params["dit"]["blocks"]["ffn_in"]["kernel"].addressable_shards[0]
    assert shard.data.shape == (2, 12, 10)


def test_networks_that_are_not_named_are_not_read(mesh, folder):
    placed = load(folder, mesh=mesh, networks=("dit",))
    assert set(placed.params) == {"dit"}
    places = jax.tree.map(lambda leaf: leaf.sharding, placed.params["dit"])
    again = place(placed.params["dit"], places)
    assert again["head"]["kernel"] is placed.params["dit"]["head"]["kernel"]


def test_halves_are_for_matrices_alone(mesh, folder):
    params = load(folder, "bfloat16", mesh).params
    types = {path: str(leaf.dtype) for path, leaf in traverse_util.flatten_dict(params, sep="/").items()}
    half = {path for path, dtype in types.items() if dtype == "bfloat16"}
    assert {path.rsplit("/", 1)[1] for path in half} == {"kernel", "embedding"}
    assert not any(path.startswith("vae") for path in half)
    assert {dtype for path, dtype in types.items() if path not in half} == {"float32"}
    assert types["dit/time/inner/kernel"] == types["dit/time_modulation/kernel"] == "float32"
    assert types["dit/head/kernel"] == "bfloat16"


@pytest.mark.slow
def test_a_sharded_model_makes_the_same_clip(mesh, folder):
    options = {"image": tiny_wan.picture(), "size": (8, 12), "frames": 3, "steps": 1, "progress": False}
    clip = sora.load(folder, mesh=mesh).generate("a red circle", **options)
    same = sora.load(folder).generate("a red circle", **options)
    np.testing.assert_allclose(clip.frames, same.frames, atol=1e-4)


def test_the_host_holds_its_own_part_and_one_tensor(mesh, tmp_path, monkeypatch):
    """As on a host of one device of the eight: the most that NumPy holds while that device's part is read."""
    config = DiTConfig(
        in_channels=4, out_channels=4, width=256, depth=4, heads=4, ffn_width=2048, text_width=64
    )
    leaves, path = dit_leaves(config), tmp_path / "dit.safetensors"
    shapes = published_shapes(leaves)
    save_file({name: np.ones(shape, np.float32) for name, shape in shapes.items()}, path)
    device = mesh.devices.flat[5]

    def one_device(shape, sharding, read):
        return read(sharding.devices_indices_map(shape)[device])

    monkeypatch.setattr(layout_module.jax, "make_array_from_callback", one_device)
    file, places = TensorFile(path), parameter_shardings(config, mesh)
    tracemalloc.start()
    try:
        parts = gather(file, leaves, np.float32, places)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    own = sum(leaf.nbytes for leaf in jax.tree.leaves(parts))
    largest = max(int(np.prod(shape)) * 4 for shape in shapes.values())
    assert own < path.stat().st_size / 5
    assert peak <= own + largest + 2**18
