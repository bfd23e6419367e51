"""From a folder of clips to an adapter's file or a model's folder, by the commands that a user gives."""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import pytest
import tiny_model

import sora_jax as sora
from sora_jax.cli.main import main
from sora_jax.evals.playground import EXTRA_GROUPS, evaluate, prompts_of
from sora_jax.evals.runs import _model_of, load_experiment
from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline
from sora_jax.weights import load, read_lora

EXPERIMENTS = Path(__file__).parents[2] / "experiments"
TINY = """
from sora_jax.data.clips import ClipsConfig
from sora_jax.models.lora import LoRAConfig
from sora_jax.train.finetune import FineTuneRun
from tiny_model import CONFIG

EXPERIMENT = FineTuneRun(
    model=CONFIG, start_from="given", lora=LoRAConfig(rank=2),
    data=ClipsConfig(folder="given", height=16, width=16, frames=5, fps=8.0, aspects=()),
    steps=2, batch_size=8, sample_every=2, log_every=1,
)
"""


@pytest.fixture
def given(tmp_path, monkeypatch):
    """The words of a command that fine-tunes the tiny model on two clips and a broken one."""
    monkeypatch.setenv("SORA_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "run.py").write_text(TINY)
    clips = tmp_path / "clips"
    clips.mkdir()
    for name in "ab":
        Clip(np.zeros((5, 16, 16, 3), np.float32), 8.0).save(clips / f"{name}.webp")
        (clips / f"{name}.txt").write_text("a red circle moves right")
    (clips / "c.mp4").write_bytes(b"no video")
    (clips / "c.txt").write_text("broken")
    model = tiny_model.write(tmp_path / "model")
    words = ["train", str(tmp_path / "run.py"), "--workdir", str(tmp_path / "run")]
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield [*words, "--start-from", str(model), "--data.folder", str(clips)], model


@pytest.mark.slow
def test_a_lora_is_trained_and_generates(given, tmp_path, capsys):
    command, model = given
    assert main([*command, "--prompts", "a red circle"]) == 0
    said = capsys.readouterr()
    assert str(tmp_path / "run" / "weights") in said.out
    assert "left out: c.mp4" in said.err
    assert (tmp_path / "run" / "sheets" / "step-000002.png").exists()
    base = load(model)
    lora = read_lora(tmp_path / "run" / "weights", base.params["dit"])
    assert max(np.abs(factors["b"]).max() for factors in lora.values()) > 0
    plain = sora.load(model).generate("a red circle", steps=1, progress=False)
    adapted = sora.load(model, lora=[(tmp_path / "run" / "weights", 50.0)])
    assert (
        np.abs(adapted.generate("a red circle", steps=1, progress=False).frames - plain.frames).max() > 1e-3
    )
    losses = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in losses] == [1, 2]


@pytest.mark.slow
def test_a_whole_model_is_trained_and_loads(given, tmp_path):
    command, model = given
    whole = (tmp_path / "run.py").read_text().replace("lora=LoRAConfig(rank=2)", "lora=None")
    (tmp_path / "run.py").write_text(whole)
    assert main([*command, "--steps", "1"]) == 0
    before, after = load(model), load(tmp_path / "run" / "weights")
    assert dataclasses.replace(after.config, dit=before.config.dit) == before.config
    for part, changed in (("dit", True), ("vae", False), ("text", False)):
        same = jax.tree.map(np.array_equal, before.params[part], after.params[part])
        assert all(jax.tree.leaves(same)) != changed


def test_what_can_t_be_tuned_is_refused_before_it_is_trained(given, tmp_path, capsys):
    command, _ = given
    assert main([*command, "--lora.targets", "patch_embedding/kernel", "--lora.rank", "1"]) == 2
    assert "patch_embedding/kernel can't be written" in capsys.readouterr().err
    assert main([*command, "--start-from", "nowhere"]) == 2
    assert "nowhere" in capsys.readouterr().err
    assert not (tmp_path / "run" / "checkpoints").exists()
    run = load_experiment(tmp_path / "run.py")
    other = dataclasses.replace(run.model, dit=dataclasses.replace(run.model.dit, ffn_width=24))
    with pytest.raises(ValueError, match="its ffn_width is 24 and not 16"):
        _model_of(run, other)
    remat = dataclasses.replace(run.model, dit=dataclasses.replace(run.model.dit, remat="full"))
    assert _model_of(dataclasses.replace(run, model=remat), run.model).dit.remat == "full"


def test_the_crescents_are_a_folder_to_train_on(tmp_path, monkeypatch):
    from runpy import run_path

    from sora_jax.data.folder_captions import find_clips

    script = run_path(str(EXPERIMENTS / "draw_crescents.py"))
    args = script["Args"](out=tmp_path / "crescents", count=5, size=32, frames=3)
    script["main"](args)
    found, problems = find_clips(tmp_path / "crescents")
    assert not problems
    assert [any("crescent" in text for text in clip.captions) for clip in found].count(True) == 3
    assert all(all("crescent" in t for t in c.captions) for c in found if "crescent" in c.captions[0])
    with pytest.raises(SystemExit, match="holds something already"):
        script["main"](args)


def test_the_group_of_crescents_asks_for_crescents():
    prompts = prompts_of(EXTRA_GROUPS["crescent"], 4)
    assert all("crescent" in prompt for prompt in prompts)
    with pytest.raises(ValueError, match=r"choose from .*crescent, vae"):
        evaluate(Pipeline(tiny_model.checkpoint()), groups=("moon",))
