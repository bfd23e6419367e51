"""Every shipped training experiment, at full size: nothing large lies whole on every device. Nothing is computed."""

import functools
import math
from pathlib import Path

import jax
import pytest
from flax import linen as nn

from sora_jax.evals.runs import load_experiment
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train import dit, vae
from sora_jax.train.optimizer import make_optimizer
from sora_jax.train.state import TrainState, state_shardings

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments" / "train").glob("*.py"))
LARGE = 2**14  # entries


def is_box(leaf):
    return isinstance(leaf, nn.LogicallyPartitioned)


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_parameters_average_and_optimizer_state_are_cut_over_fsdp(path):
    run = load_experiment(path)
    if isinstance(run, vae.VAERun):
        init = functools.partial(vae.init_params, run)
    else:
        init = functools.partial(dit.init_params, run, run.model.text.max_length)
    tx = make_optimizer(run.optimizer, run.steps)
    mesh = make_mesh(MeshConfig(data=1, fsdp=4, tensor=2))
    places = state_shardings(init, tx, mesh)
    state = jax.eval_shape(lambda: TrainState.create(init(), tx))

    large = 0
    leaves = jax.tree_util.tree_leaves_with_path(state, is_leaf=is_box)
    for (name, leaf), place in zip(leaves, jax.tree.leaves(places), strict=True):
        for array in jax.tree.leaves(leaf):  # none where an optimizer leaves a parameter to another
            own = math.prod(place.shard_shape(array.shape))  # raises if the mesh doesn't divide the array
            if array.size >= LARGE:
                large += 1
                what = f"{jax.tree_util.keystr(name)} {array.shape}"
                assert own < array.size, f"{what} lies whole on every device"
    assert large > 10
