"""The step of every experiment that trains from random weights, before there is a machine to run it on."""

import dataclasses
from pathlib import Path

import chex
import jax
import pytest

from sora_jax.evals.runs import load_experiment
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train.abstract import abstract_step
from sora_jax.train.dit import DiTRun
from sora_jax.train.vae import VAERun

FOLDER = Path(__file__).parents[2] / "experiments" / "train"
NAMES = ("playground_vae", "playground_decoder", "playground_dit", "emoji_vae", "emoji_dit")


@pytest.mark.parametrize("name", NAMES)
def test_a_step_gives_the_state_it_takes_and_every_array_has_a_place(name):
    run = load_experiment(FOLDER / f"{name}.py")
    assert isinstance(run, VAERun | DiTRun)
    run = dataclasses.replace(run, batch_size=8 * run.accumulate)
    step = abstract_step(run, make_mesh(MeshConfig(fsdp=8)))
    state = step.arguments[0]
    assert all(leaf.sharding.mesh.shape["fsdp"] == 8 for leaf in jax.tree.leaves(state))
    after, _, metrics = jax.eval_shape(step.function, *step.arguments)
    chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
    assert metrics["loss"].shape == ()
