"""Every shipped training experiment, at full size: nothing large lies whole on every device. Nothing is computed."""

import functools
from pathlib import Path

import jax
import pytest

from sora_jax.evals.runs import load_experiment
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train import dit, vae
from sora_jax.train.optimizer import make_optimizer
from sora_jax.train.state import TrainState, state_shardings

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments" / "train").glob("*.py"))
LARGE = 2**14  # entries


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
    for (name, leaf), place in zip(
        jax.tree_util.tree_leaves_with_path(state), jax.tree.leaves(places), strict=True
    ):
        own = place.shard_shape(leaf.shape)  # raises if the mesh doesn't divide the array
        if leaf.size >= LARGE:
            large += 1
            cut = leaf.size // int(functools.reduce(int.__mul__, own, 1))
            assert cut > 1, f"{jax.tree_util.keystr(name)} {leaf.shape} lies whole on every device"
    assert large > 10
