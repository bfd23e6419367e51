"""Every shipped experiment, at full size: nothing large lies whole on every device. Nothing is computed."""

import dataclasses
import functools
import math
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from sora_jax.evals.plan.program import load_work, mesh_of_work, model_of, planned
from sora_jax.evals.runs import load_experiment
from sora_jax.models.config import MODELS
from sora_jax.parallel import MeshConfig, batch_sharding, make_mesh, shardings
from sora_jax.parallel.mesh import LARGE as LARGE_ON_A_MESH
from sora_jax.studio.sample import Sample
from sora_jax.train import dit, finetune, vae
from sora_jax.train.abstract import abstract_step
from sora_jax.train.optimizer import make_optimizer
from sora_jax.train.state import TrainState, state_shardings
from sora_jax.weights.shapes import abstract, parameter_tree

FOLDER = Path(__file__).parents[2] / "experiments"
EXPERIMENTS = sorted((FOLDER / "train").glob("*.py"))
SAMPLES = sorted((FOLDER / "sample").glob("*.py"))
LARGE = 2**14  # entries


def large_ones(tree, places):
    """How many arrays of the tree are large, each of which must be cut."""
    large = 0
    arrays = jax.tree_util.tree_leaves_with_path(nn.unbox(tree))
    for (name, array), place in zip(arrays, jax.tree.leaves(places), strict=True):
        own = math.prod(place.shard_shape(array.shape))  # raises if the mesh doesn't divide the array
        if array.size >= LARGE:
            large += 1
            what = f"{jax.tree_util.keystr(name)} {array.shape}"
            assert own < array.size, f"{what} lies whole on every device"
    return large


def batch_of(run):
    """The shapes of a batch."""
    array, n = jax.ShapeDtypeStruct, max(run.batch_size, 4)  # a clip for each device, at least
    data = run.data
    if isinstance(run, vae.VAERun):
        side, frames = run.crop_size or data.height, run.crop_frames or data.frames
        return {"video": array((n, frames, side, run.crop_size or data.width, 3), "uint8")}
    latents = array((n, *run.model.vae.latent_shape(data.frames, data.height, data.width)), "float32")
    text = run.model.text
    if isinstance(run, dit.DiTRun):
        return {"latents": latents, "ids": array((n, text.max_length), "int32")}
    return {"latents": latents, "text": array((n, text.max_length, text.width), "float32")}


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_state_batch_and_what_is_frozen_are_cut(path):
    run = load_experiment(path)
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    if isinstance(run, vae.VAERun):
        init = functools.partial(vae.init_params, run)
    elif isinstance(run, dit.DiTRun):
        init = functools.partial(dit.init_params, run, run.model.text.max_length)
    elif run.lora:
        init = finetune.lora_init(run)
    else:
        init = lambda: jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), finetune.boxed_params(run))  # noqa: E731
    tx = make_optimizer(run.optimizer, run.steps)
    state = jax.eval_shape(lambda: TrainState.create(init(), tx))
    assert large_ones(state, state_shardings(init, tx, mesh)) > 10

    batch = batch_of(run)
    assert large_ones(batch, jax.tree.map(lambda _: batch_sharding(mesh), batch))
    if isinstance(run, finetune.FineTuneRun):
        places, text = finetune.frozen_shardings(run, mesh), run.model.text
        empty = jax.ShapeDtypeStruct((text.max_length, text.width), "float32")
        assert large_ones(empty, places["empty"][0]) == (empty.size >= LARGE)
        if run.lora:
            assert large_ones(finetune.boxed_params(run), places["dit"]) > 10


@pytest.mark.parametrize("path", SAMPLES, ids=lambda path: path.stem)
def test_what_is_sampled_with_is_cut(path):
    sample = runpy.run_path(str(path))["SAMPLE"]
    config = MODELS[path.stem] if path.stem in MODELS else model_of(sample.model)
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    for network in config.networks.values():
        params = abstract(network)
        assert large_ones(params, shardings(params, mesh)) > 5


@dataclasses.dataclass(frozen=True)
class Chip:
    id: int
    platform = "described"
    process_index = 0


def own_mesh(work):
    config = mesh_of_work(work)
    count = max(config.data, 1) * config.fsdp * config.context * config.tensor
    return make_mesh(config, [Chip(i) for i in range(count)])


def assert_cut(tree, mesh, places=None):
    """Large arrays are cut in 32 parts or for as many devices as share a model, and what lies whole is little."""
    parts = min(32, mesh.size // mesh.shape["data"])
    if places is None:
        places = jax.tree.map(lambda leaf: leaf.sharding, tree)
    total = lying_whole = 0
    arrays = jax.tree_util.tree_leaves_with_path(tree)
    for (name, array), place in zip(arrays, jax.tree.leaves(places), strict=True):
        own = math.prod(place.shard_shape(array.shape))
        what = f"{jax.tree_util.keystr(name)} {array.shape} lies as {place.spec}: {own} entries a device"
        assert array.size < LARGE_ON_A_MESH or own * parts <= array.size, what
        total += array.size
        lying_whole += array.size if own == array.size else 0
    assert lying_whole < total / 100


WORKS = {path: load_work(path) for path in [*EXPERIMENTS, FOLDER / "sample" / "minute_1080p.py"]}
CUT = [path for path, work in WORKS.items() if own_mesh(work).size > 1]


def test_experiments_that_are_cut_are_known():
    meshes = {
        path.stem for path in SAMPLES if "context=" in path.read_text() or "shards=" in path.read_text()
    }
    assert meshes == {"minute_1080p"}
    assert {path.stem for path in CUT} > meshes | {"wan2_1_14b_720p", "wan2_1_14b_1080p", "wan2_1_1_3b_480p"}


@pytest.mark.parametrize("path", CUT, ids=lambda path: path.stem)
def test_nothing_large_is_whole_on_the_experiment_s_own_mesh(path):
    work = WORKS[path]
    mesh = own_mesh(work)
    if isinstance(work, Sample):
        # Every chip holds the text, which its tokens attend to, and the latents: no side of 361 x 68 x 120 x 48 is
        # divided by 256 chips.
        assert_cut(planned(work, mesh).parts["parameters"], mesh)
        for network in model_of(work.model).networks.values():
            assert_cut(parameter_tree(network), mesh, shardings(abstract(network), mesh))
        return
    state, _, batch, _, frozen = abstract_step(work, mesh).arguments
    assert_cut(state, mesh)
    if frozen and "dit" in frozen:
        assert_cut(frozen["dit"], mesh)
    for array in jax.tree.leaves(
        batch
    ):  # a chip is fed its clips alone; their tokens are cut within the step
        copies = mesh.shape["data"] * mesh.shape["fsdp"]
        assert array.sharding.shard_shape(array.shape)[0] * copies == array.shape[0]
