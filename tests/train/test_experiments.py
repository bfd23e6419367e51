"""Every shipped experiment, at full size: nothing large lies whole on every device. Nothing is computed."""

import functools
import math
import runpy
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from sora_jax.evals.plan.program import model_of
from sora_jax.evals.runs import load_experiment
from sora_jax.models.config import MODELS
from sora_jax.parallel import MeshConfig, batch_sharding, make_mesh, shardings
from sora_jax.train import dit, finetune, vae
from sora_jax.train.optimizer import make_optimizer
from sora_jax.train.state import TrainState, state_shardings
from sora_jax.weights.shapes import abstract

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
