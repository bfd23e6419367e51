"""The weights in the package do what their card says: `figures.json` beside them is `sora-jax eval playground`'s."""

import json
from importlib import resources

import numpy as np
import pytest

import sora_jax as sora
from sora_jax.evals.playground import GROUPS, evaluate
from sora_jax.evals.studio import evaluate_studio
from sora_jax.evals.studio_scenes import fresh_scene, shot_of

FIGURES = json.loads((resources.files("sora_jax") / "weights/playground/figures.json").read_text())


@pytest.fixture(scope="module")
def pipeline():
    return sora.load("playground")


def test_colours_and_paths_are_as_asked_for(pipeline):
    row = evaluate(pipeline, count=8, groups=("one_object",), steps=20).figures["groups"]["one_object"]
    assert row["attributes"]["color"]["right"] >= 7
    assert row["attributes"]["motion"]["right"] >= 3


def test_a_clip_is_in_range_and_moves(pipeline):
    clip = pipeline.generate("a red circle moves right", steps=8, progress=False)
    assert clip.frames.shape == (17, 64, 64, 3)
    assert np.abs(clip.frames).max() <= 1
    assert np.abs(np.diff(clip.frames, axis=0)).max() > 0.5


def test_the_autoencoder_keeps_its_figure(pipeline):
    assert evaluate(pipeline, count=8, groups=("vae",)).figures["vae"]["psnr"] >= 34


def test_edits_keep_what_they_are_given(pipeline):
    figures, _, _ = evaluate_studio(pipeline, count=1, tasks=("animate", "extend"), steps=3)
    kept = [row for task in figures["tasks"].values() for row in task["rows"] if row["name"] == "kept"]
    assert [(row["value"], row["met"]) for row in kept] == [(99, True), (99, True)]  # to the bit
    clip = shot_of(pipeline, fresh_scene(0))
    same = pipeline.remix(clip, "a blue star spins", strength=0, progress=False)
    np.testing.assert_array_equal(same.frames, clip.frames)


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_every_group_keeps_its_rate(pipeline, name):
    found = evaluate(pipeline, count=64, seed=1000, groups=(name,)).figures["groups"][name]
    recorded = FIGURES["groups"][name]
    assert found["high"] >= recorded["low"]
