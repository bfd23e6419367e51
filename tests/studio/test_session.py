"""A generation in progress is a value: changed, forked, saved and resumed, to the bit."""

import dataclasses

import numpy as np
import pytest
import tiny_model

from sora_jax.diffusion import saved
from sora_jax.studio import programs
from sora_jax.studio import session as sessions
from sora_jax.studio.given import Given
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve

WORDS = ["a red circle moves right", "a blue star spins"]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


@pytest.fixture(scope="module")
def request_(pipeline):
    return resolve(pipeline.config, WORDS, seed=3, steps=4)


def test_saved_half_way_it_ends_with_the_same_bits(pipeline, request_, tmp_path):
    half = pipeline.advance(pipeline.begin(request_), 2)
    whole = pipeline.sample(request_)
    path = sessions.save(tmp_path / "half.npz", half, pipeline.config.name)
    resumed = pipeline.advance(sessions.restore(pipeline, path), 9)
    assert resumed.step == 4
    np.testing.assert_array_equal(resumed.latents, whole.latents)
    np.testing.assert_array_equal(pipeline.finish(resumed)[1].frames, pipeline.finish(whole)[1].frames)
    assert resumed.request == whole.request


def test_forks_share_their_past_and_part(pipeline, request_):
    half = pipeline.advance(pipeline.begin(request_), 2)
    before = np.asarray(half.latents)
    fork = pipeline.advance(pipeline.change(half, prompt="a green square stays still"), 9)
    np.testing.assert_array_equal(half.latents, before)
    whole = pipeline.sample(request_)
    np.testing.assert_array_equal(pipeline.advance(half, 9).latents, whole.latents)
    assert np.abs(fork.latents - whole.latents).max() > 1e-3
    metadata = pipeline.finish(fork)[1].metadata
    assert metadata["prompt"] == WORDS[1]
    assert metadata["changes"] == [{"step": 2, "prompt": "a green square stays still"}]


def test_an_earlier_change_goes_further(pipeline, request_):
    other = pipeline.sample(dataclasses.replace(request_, prompts=tuple(WORDS[::-1]))).latents
    apart = []
    for step in (1, 3):
        changed = pipeline.change(pipeline.advance(pipeline.begin(request_), step), prompt=WORDS[::-1])
        apart.append(float(np.abs(pipeline.advance(changed, 9).latents - other).mean()))
    assert apart[0] < apart[1]
    at_once = pipeline.advance(pipeline.change(pipeline.begin(request_), prompt=WORDS[::-1]), 9)
    np.testing.assert_array_equal(at_once.latents, other)


def test_guidance_and_negative_change_from_the_next_step_on(pipeline, request_):
    half = pipeline.advance(pipeline.begin(request_), 2)
    changed = pipeline.change(half, guidance=5.0, negative="a blue star spins")
    assert changed.request.guidance == (2.0, 2.0, 5.0, 5.0)
    assert changed.request.latest == (tuple(WORDS), "a blue star spins")
    end = pipeline.advance(changed, 9)
    assert np.abs(end.latents - pipeline.sample(request_).latents).max() > 1e-3
    assert end.request.settings(0)["changes"] == [
        {"step": 2, "negative": "a blue star spins", "guidance": 5.0}
    ]
    with pytest.raises(ValueError, match="1 prompts for 2 clips"):
        pipeline.change(half, prompt=WORDS[:1])


def test_a_mask_fixes_frames_half_way(pipeline, request_):
    half = pipeline.advance(pipeline.begin(request_), 2)
    latents = np.full(half.latents.shape, 0.5, np.float32)
    given = Given(latents=latents, unknown=np.array([[True, False, True]]))
    end = pipeline.advance(pipeline.change(half, given=given), 9)
    np.testing.assert_array_equal(end.latents[:, 1], latents[:, 1])
    assert np.abs(np.asarray(end.latents[:, 0]) - 0.5).max() > 1e-3
    with pytest.raises(ValueError, match="by a mask"):
        pipeline.change(half, given=Given(latents=latents))


def test_a_mask_keeps_what_lies_beside_the_noise(pipeline, request_):
    half = pipeline.begin(request_)
    beside, tokens = np.zeros((2, 3, 4, 4, 1), np.float32), np.zeros((2, 1, 8), np.float32)
    shown = dataclasses.replace(half, given=Given(beside=beside, tokens=tokens))
    given = Given(latents=half.latents, unknown=np.array([[True, False, True]]))
    changed = pipeline.change(shown, given=given)
    assert changed.given.beside is beside
    assert changed.given.tokens is tokens
    assert (
        pipeline.change(shown, given=dataclasses.replace(given, tokens=tokens[:1])).given.tokens.shape[0] == 1
    )


def test_a_model_without_known_frames_takes_no_mask(request_):
    checkpoint = tiny_model.checkpoint()
    config = dataclasses.replace(checkpoint.config, known_frames=False)
    pipeline = Pipeline(dataclasses.replace(checkpoint, config=config))
    half = pipeline.begin(request_)
    with pytest.raises(ValueError, match="not trained with known frames"):
        pipeline.change(half, given=Given(latents=half.latents, unknown=np.array([[True, False, True]])))


def test_scripts_share_the_time(pipeline, request_):
    ends = [pipeline.sample(dataclasses.replace(request_, prompts=(words,) * 2)).latents for words in WORDS]
    scripts = tuple((words,) * 2 for words in WORDS)
    for k in (0, 1):
        weights = np.zeros((2, 3), np.float32)
        weights[k] = 1
        mixed = pipeline.sample(request_, Given(scripts=scripts, weights=weights)).latents
        np.testing.assert_allclose(mixed, ends[k], atol=2e-5)
    weights = np.array([[1, 0.5, 0], [0, 0.5, 1]], np.float32)
    mixed = pipeline.sample(request_, Given(scripts=scripts, weights=weights)).latents
    assert min(np.abs(mixed - end).max() for end in ends) > 1e-3


def test_another_model_s_generation_is_refused(pipeline, request_, tmp_path):
    path = sessions.save(tmp_path / "a.npz", pipeline.begin(request_), "playground")
    with pytest.raises(ValueError, match="a generation of 'playground' and this model is 'playground_tiny'"):
        sessions.restore(pipeline, path)


def test_a_broken_or_swollen_file_is_refused(pipeline, request_, tmp_path, monkeypatch):
    saved.save(tmp_path / "bare.npz", pipeline.begin(request_).generation, {"model": pipeline.config.name})
    with pytest.raises(ValueError, match="a generation and no session"):
        sessions.restore(pipeline, tmp_path / "bare.npz")
    path = sessions.save(tmp_path / "a.npz", pipeline.begin(request_), pipeline.config.name)
    monkeypatch.setattr(saved, "LARGEST", 100)
    with pytest.raises(ValueError, match="over the limit of 100"):
        sessions.restore(pipeline, path)


def test_changes_need_no_new_program(pipeline, request_):
    half = pipeline.advance(pipeline.begin(request_), 2)
    before = programs.advance._cache_size()
    pipeline.advance(pipeline.change(half, prompt=WORDS[::-1], guidance=3.0), 9)
    assert programs.advance._cache_size() == before
