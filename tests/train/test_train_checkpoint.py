"""Whatever happens to a checkpoint, the one before it is there, whole, and found."""

import json
import os
import random
import shutil
import subprocess
import sys
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import saving
from flax import linen as nn
from jax.sharding import PartitionSpec

from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train.checkpoint import Checkpoints, checksum
from sora_jax.train.state import initial_state

DATA = {"next_index": 24}


def made(**mesh):
    """A state of Adam's on a mesh, and a function that gives it at a step."""

    def init():
        axes = nn.with_logical_partitioning(nn.initializers.normal(), ("embed", "mlp"))
        return {"w": axes(jax.random.key(0), (64, 128)), "b": jnp.arange(3.0)}

    state, _ = initial_state(init, optax.adam(1e-3), make_mesh(MeshConfig(**mesh)))
    return lambda step: state.replace(step=jnp.full_like(state.step, step))


@pytest.fixture(scope="module")
def at():
    return made(data=1, fsdp=4, tensor=2)


@pytest.fixture(scope="module")
def three(at, tmp_path_factory):
    """A folder with the checkpoints of steps 1 to 3."""
    folder = tmp_path_factory.mktemp("three")
    with Checkpoints(folder, {}, keep=3) as checkpoints:
        for step in (1, 2, 3):
            checkpoints.save(at(step), DATA)
    return folder


@pytest.fixture
def copy(three, tmp_path):
    return shutil.copytree(three, tmp_path / "run")


def largest(folder):
    return max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)


def cut_short(folder):
    file = largest(folder / "state")
    os.truncate(file, file.stat().st_size // 2)


def flip(folder):
    file = largest(folder / "state")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)


def another_position(folder):
    file = folder / "data" / "metadata"
    file.write_text(file.read_text().replace("24", "32"))


def emptied(folder):
    shutil.rmtree(folder / "state")


@pytest.mark.parametrize("damage", [cut_short, flip, another_position, emptied])
def test_a_damaged_one_is_named_and_the_one_before_it_taken(damage, copy, at, capsys):
    damage(copy / "checkpoints" / "3")
    with Checkpoints(copy, {}, keep=3) as checkpoints:
        state, data = checkpoints.restore(at(0))
        chex.assert_trees_all_equal(state, at(2))
        assert data == DATA
        said = capsys.readouterr().err
        assert said.startswith("sora-jax: the checkpoint of step 3 is damaged (")
        assert said.count("\n") == 1
        assert (copy / "damaged-3").is_dir()
        checkpoints.save(at(3), DATA)  # its place is free again
    with Checkpoints(copy, {}, keep=3) as checkpoints:
        chex.assert_trees_all_equal(checkpoints.restore(at(0))[0], at(3))


def test_when_all_are_damaged_none_is_touched(copy, at):
    for step in (1, 2, 3):
        cut_short(copy / "checkpoints" / str(step))
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be read \(that of step 3: "):
        Checkpoints(copy, {}).restore(at(0))
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["1", "2", "3"]


def test_one_without_a_checksum_is_taken_as_it_is(copy, at):
    (copy / "checkpoints" / "3" / "data" / "metadata").write_text(json.dumps(DATA))
    with Checkpoints(copy, {}) as checkpoints:
        state, data = checkpoints.restore(at(0))
    chex.assert_trees_all_equal(state, at(3))
    assert data == DATA


def test_on_another_mesh_the_bits_are_the_same(three, at):
    other = made(data=2, fsdp=2, context=2)
    with Checkpoints(three, {}, keep=3) as checkpoints:
        state, _ = checkpoints.restore(other(0))
    chex.assert_trees_all_equal(jax.device_get(state), jax.device_get(at(3)))
    assert state.params["w"].sharding.spec == PartitionSpec(("fsdp", "context"), "tensor")
    assert state.opt_state[0].mu["w"].addressable_shards[0].data.shape == (16, 128)


def test_the_checksum_sees_every_change_and_no_mesh(at):
    sum_of = lambda state: int(checksum(state))  # noqa: E731
    whole = at(3)
    assert sum_of(whole) == sum_of(jax.device_get(whole)) == sum_of(made(data=8)(3))
    swapped = whole.replace(params={**whole.params, "b": whole.params["b"][::-1]})
    assert len({sum_of(whole), sum_of(at(2)), sum_of(swapped)}) == 3
    assert sum_of({"a": np.array([True, False]), "b": jnp.ones(2, jnp.bfloat16)}) != sum_of({})


def test_the_newest_stay_and_every_so_many(at, tmp_path):
    with Checkpoints(tmp_path, {}, keep=2, keep_every=3) as checkpoints:
        for step in range(1, 9):
            checkpoints.save(at(step), DATA)
    assert sorted(path.name for path in (tmp_path / "checkpoints").iterdir()) == ["3", "6", "7", "8"]


def saver(folder, *arguments):
    return subprocess.Popen(
        [sys.executable, saving.__file__, folder, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "JAX_NUM_CPU_DEVICES": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def found_in(folder):
    """The step of the newest checkpoint, whose numbers are that step's."""
    with Checkpoints(folder, {}) as checkpoints:
        state, data = checkpoints.restore(saving.state_of(0))
    step = int(state.step)
    assert data == {"next_index": step}
    np.testing.assert_array_equal(state.params["w"], saving.state_of(step).params["w"])
    return step


def killed_while_saving(process, folder, moment):
    """Kills a saver so many seconds after it began its fourth save; gives what it had begun, and what is there."""
    try:
        while int(process.stdout.readline()) < 4:
            pass
        time.sleep(moment)
    finally:
        process.kill()
    begun = [4, *map(int, process.communicate()[0].split())][-1]
    return begun, found_in(folder)


def test_neither_a_kill_amid_a_save_nor_a_full_disk_harms_the_checkpoint_before(tmp_path):
    full = saver(tmp_path / "full", "3")
    draw, killed = random.Random(0), saver(tmp_path / "killed")
    begun, found = killed_while_saving(killed, tmp_path / "killed", draw.uniform(0, 0.2))
    assert begun - 2 <= found <= begun  # a save is begun when the one before it is there

    _, said = full.communicate(timeout=120)
    last = said.strip().splitlines()[-1]
    assert last.startswith("OSError: the checkpoint of step 3 couldn't be written to ")
    assert "File too large" in last
    assert "that of step 2 is whole; make room there and give the same command again" in last
    assert found_in(tmp_path / "full") == 2


@pytest.mark.slow
def test_twenty_kills_amid_saves(tmp_path):
    for number in range(20):
        folder = tmp_path / str(number)
        begun, found = killed_while_saving(saver(folder), folder, random.uniform(0, 0.5))
        assert begun - 2 <= found <= begun
