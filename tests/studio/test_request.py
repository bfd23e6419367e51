import json

import numpy as np
import pytest

from sora_jax.models.config import MODELS
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.studio.prompts import PromptWarning, check_words, file_stem
from sora_jax.studio.request import check_request, resolve

PLAYGROUND = MODELS["playground"]


def test_defaults_are_the_models():
    request = resolve(PLAYGROUND, ["a red circle"])
    defaults = PLAYGROUND.defaults
    assert (request.steps, request.sampler) == (defaults.steps, defaults.sampler)
    assert request.guidance == (defaults.guidance,) * defaults.steps
    assert json.loads(json.dumps(request.settings(0)))["seed"] == 0


def test_rows_are_prompts_times_variations_and_seeds_count_up():
    request = resolve(PLAYGROUND, ["a", "b"], variations=2, seed=2**32 - 2)
    assert request.prompts == ("a", "a", "b", "b")
    assert request.seeds == (2**32 - 2, 2**32 - 1, 0, 1)
    assert resolve(PLAYGROUND, ["a", "b"], seed=[5, 5]).seeds == (5, 5)


def test_guidance_schedules():
    curve = np.linspace(1, 4, 10)
    request = resolve(PLAYGROUND, ["a"], steps=10, guidance=curve)
    assert request.guided
    assert request.settings(0)["guidance"] == pytest.approx(curve.tolist())
    assert not resolve(PLAYGROUND, ["a"], guidance=1).guided
    with pytest.raises(ValueError, match="one a step"):
        resolve(PLAYGROUND, ["a"], steps=9, guidance=curve)


@pytest.mark.parametrize(
    "wrong",
    [
        {"variations": 0},
        {"variations": -4},
        {"variations": 10**9},
        {"steps": 0},
        {"steps": 1001},
        {"guidance": float("nan")},
        {"guidance": -1.0},
        {"guidance": [1.0, 1e9]},
        {"seed": -1},
        {"seed": 2**32},
    ],
)
def test_numbers_out_of_range(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        check_request(**wrong)


def test_unknown_sampler_and_seed_counts():
    with pytest.raises(ValueError, match="unipc"):
        resolve(PLAYGROUND, ["a"], sampler="magic")
    with pytest.raises(ValueError, match="3 seeds for 2 clips"):
        resolve(PLAYGROUND, ["a", "b"], seed=[1, 2, 3])
    with pytest.raises(ValueError, match="no prompts"):
        resolve(PLAYGROUND, [])


@pytest.fixture(scope="module")
def tokenizer():
    captions = ["a red circle moves right", "a blue star spins"]
    return Tokenizer(train_tokenizer(captions, 512), 8)


def test_words(tokenizer):
    assert check_words("  A Red circle moves right ", tokenizer) == "A Red circle moves right"
    with pytest.warns(PromptWarning, match="never saw: zebra") as caught:
        check_words("a red zebra spins", tokenizer, "stars")
    assert "It knows stars." in str(caught[0].message)
    with pytest.warns(PromptWarning, match="no effect"):
        check_words("a red circle moves right " * 3, tokenizer)


@pytest.mark.parametrize("prompt", ["", "   ", "zebra unicorn", "!!!", "x" * 100_000, "a red " * 20_000])
def test_prompts_that_say_nothing(prompt, tokenizer):
    with pytest.raises(ValueError, match=r"empty|characters|no word"):
        check_words(prompt, tokenizer)


def test_file_names_come_from_the_prompt():
    assert file_stem("A red circle moves right!") == "a-red-circle-moves-right"
    assert file_stem("../../etc/passwd") == "etc-passwd"
    assert file_stem("???") == "clip"
    assert len(file_stem("word " * 100)) <= 60
