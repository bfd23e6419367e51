"""The weights in the package do what their card says; `sora-jax eval playground` and `eval studio` have the figures."""

import numpy as np
import pytest

import sora_jax as sora
from sora_jax.evals.playground import GROUPS, evaluate
from sora_jax.evals.studio import TASKS, evaluate_studio


@pytest.fixture(scope="module")
def pipeline():
    return sora.load("playground")


def test_fresh_captions_are_followed(pipeline):
    figures = evaluate(pipeline, count=16, groups=("one_object", "vae")).figures
    # Sixteen clips at a rate of 0.9 are below 11 right once in 10,000 times.
    assert figures["groups"]["one_object"]["right"] >= 11
    assert figures["vae"]["psnr"] >= 34


def test_clips_are_in_range_and_move(pipeline):
    clip = pipeline.generate("a red circle moves right", progress=False)
    assert clip.frames.shape == (17, 64, 64, 3)
    assert np.abs(clip.frames).max() <= 1
    assert np.abs(np.diff(clip.frames, axis=0)).max() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUPS)
def test_every_group_keeps_its_rate(pipeline, name):
    group = evaluate(pipeline, count=64, groups=(name,)).figures["groups"][name]
    assert group["high"] >= group["needs"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_every_edit_keeps_its_bars(pipeline, name):
    figures, *_ = evaluate_studio(pipeline, count=10, tasks=[name])
    for row in figures["tasks"][name]["rows"]:
        assert row["needs"] is None or row["high"] >= row["needs"], row
