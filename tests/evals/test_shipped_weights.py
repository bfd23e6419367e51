"""The weights in the package do what their card says: `figures.json` beside them is `sora-jax eval playground`'s."""

import json
from importlib import resources

import numpy as np
import pytest

import sora_jax as sora
from sora_jax.evals.playground import GROUPS, evaluate

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


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_every_group_keeps_its_rate(pipeline, name):
    found = evaluate(pipeline, count=64, seed=1000, groups=(name,)).figures["groups"][name]
    recorded = FIGURES["groups"][name]
    assert found["high"] >= recorded["low"]
