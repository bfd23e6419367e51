"""What a run on a folder's clips shows of itself: clips kept apart where there are some, words that it knows."""

import json

import numpy as np
import pytest

from sora_jax.data.folder_builder import FolderConfig, build
from sora_jax.data.sources import DataConfig
from sora_jax.evals.runs import _named_after, _prompts, clips_to_show
from sora_jax.media import Clip
from sora_jax.models.config import MODELS
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.train.dit import DiTRun

NAMES = ["red fox", "red hen", "old fox", "old hen", "red owl", "old owl"]


@pytest.fixture
def dataset(tmp_path):
    def made(test_fraction: float) -> DataConfig:
        folder = tmp_path / "clips"
        folder.mkdir()
        rows = []
        for i, name in enumerate(NAMES):
            frames = np.full((5, 16, 16, 3), 10 * i, np.uint8)
            Clip.from_uint8(frames, 8.0).save(folder / f"{i}.webp")
            rows.append({"file": f"{i}.webp", "caption": name})
        (folder / "captions.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
        config = FolderConfig(height=16, width=16, frames=5, fps=8.0, test_fraction=test_fraction)
        build(folder, tmp_path / "animals", config)
        return DataConfig(path=str(tmp_path / "animals"), height=16, width=16, frames=5)

    return made


def levels(clips):
    return sorted(int(clip.mean()) for clip in clips)


def test_clips_that_are_kept_apart_are_shown(dataset, capsys):
    data = dataset(0.34)
    clips, unseen = clips_to_show(data)
    assert unseen
    assert len(clips) == 2
    assert not capsys.readouterr().err
    own = clips_to_show(DataConfig(path=data.path, split="all"))
    assert not own[1]
    assert set(levels(clips)) < set(levels(own[0]))


def test_without_any_those_of_the_training_are_and_that_is_said(dataset, capsys):
    clips, unseen = clips_to_show(dataset(0.0))
    assert not unseen
    assert levels(clips) == [10 * i for i in range(6)]
    assert "--test-fraction 0.1` does): sheets and figures" in capsys.readouterr().err


def test_sheets_have_captions_whose_words_are_known(dataset):
    run = DiTRun(model=MODELS["playground"], vae="", data=dataset(0.0))
    tokenizer = Tokenizer(train_tokenizer(["red fox and hen"], 512), 16)
    assert _prompts(run, tokenizer) == ["red fox", "red hen"]


def test_a_model_has_the_name_of_what_it_knows():
    assert _named_after(DataConfig(path="datasets/animals"), MODELS["playground"]).name == "animals"
    assert _named_after(DataConfig(), MODELS["playground"]).name == "playground"
