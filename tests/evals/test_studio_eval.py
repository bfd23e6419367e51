"""The figures of the edits: counted and averaged as they should be, and every case runs to its end."""

import dataclasses
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny_model

from sora_jax.cli.main import main
from sora_jax.evals import studio
from sora_jax.evals.report import record, studio_table, write_drift
from sora_jax.evals.studio import TASKS, Task, evaluate_studio
from sora_jax.evals.studio_scenes import Case, fresh_scene, off_path, shot_of
from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline

ROOT = Path(__file__).parents[2]
CLIP = Clip(np.zeros((5, 16, 16, 3), np.float32), 8.0)


def test_truths_are_counted_and_figures_averaged(monkeypatch):
    def case(pipeline, seed, options):
        assert options == {"progress": False, "steps": 2}
        return Case(
            clip=CLIP, label=str(seed), truths={"even": np.equal(seed % 2, 0)}, figures={"seed": float(seed)}
        )

    monkeypatch.setitem(
        studio.TASKS, "counting", Task(title="counting", case=case, needs={"even": 0.5, "seed": 9})
    )
    pipeline = Pipeline(tiny_model.checkpoint())
    figures, best, worst = evaluate_studio(pipeline, count=5, tasks=["counting"], seed=4, steps=2)
    assert json.loads(json.dumps(figures)) == figures  # numpy's numbers wouldn't go into a file
    even, mean = figures["tasks"]["counting"]["rows"]
    assert (even["right"], even["value"], even["met"]) == (3, 0.6, True)
    assert even["low"] < 0.6 < even["high"]
    assert (mean["value"], mean["met"]) == (6, False)
    assert mean["high"] - mean["value"] == pytest.approx(1.96 * 2**0.5 / 5**0.5)
    assert {one.prompt for one in worst} == {"5", "7"}
    assert {one.prompt for one in best} == {"4", "6", "8"}
    with pytest.raises(ValueError, match="no task 'dance'"):
        evaluate_studio(pipeline, tasks=["dance"])


def counted(truths, **task) -> Task:
    """Whose case i has the truths[name][i]."""

    def case(pipeline, seed, options):
        return Case(clip=CLIP, label="", truths={name: bool(right[seed]) for name, right in truths.items()})

    return Task(title="counted", case=case, needs={}, **task)


def test_rates_are_compared_with_those_of_generate(monkeypatch):
    truths = {"generated": [1] * 9 + [0], "near": [1] * 8 + [0] * 2, "far": [1] * 7 + [0] * 3}
    monkeypatch.setitem(studio.TASKS, "counting", counted(truths, below=0.1))
    figures, _, _ = evaluate_studio(Pipeline(tiny_model.checkpoint()), count=10, tasks=["counting"])
    rows = figures["tasks"]["counting"]["rows"]
    assert [(row["needs"], row["met"]) for row in rows] == [(None, None), (0.8, True), (0.8, False)]
    needed, met = (list(column.cells) for column in studio_table(figures).columns[-2:])
    assert needed == ["", "80 %", "80 %"]
    assert met == ["", "[green]yes[/]", "[red]no[/]"]
    for name in ("change", "stream", "long_stream", "steered", "sizes", "expansion", "terse"):
        assert TASKS[name].below in (0.1, 0.15)


def test_figures_are_recorded_edit_by_edit(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sora_jax.cli.main._prepare", lambda: None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    model = tiny_model.write(tmp_path / "model")
    for name in ("minute", "loop"):
        monkeypatch.setitem(studio.TASKS, name, counted({"15 s": [1, 0]}))
    file = tmp_path / "studio.json"
    common = ["--model", str(model), "--out", str(tmp_path / "out"), "--record", str(file)]
    assert main(["eval", "studio", "--count", "2", "--groups", "minute", *common]) == 0
    said = capsys.readouterr()
    assert "drift.png needs Matplotlib: pip install 'sora_jax[plots]'" in said.err
    assert str(file) in said.out
    assert main(["eval", "studio", "--count", "1", "--groups", "loop", "--steps", "7", *common]) == 0
    found = json.loads(file.read_text())["tasks"]
    assert [(task["count"], task["settings"]["steps"]) for task in found.values()] == [(2, 3), (1, 7)]
    with pytest.raises(ValueError, match="no figures of other's edits"):
        record({"model": "other", "tasks": {}}, file)
    file.write_text("[")
    with pytest.raises(ValueError, match="no figures of"):
        record({"model": "other", "tasks": {}}, file)


def test_the_drift_is_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    row = {"value": 0.7, "low": 0.5, "high": 0.9, "needs": None}
    rows = [{**row, "name": "15 s"}, {**row, "name": "60 s", "needs": 0.8}]
    path = write_drift({"title": "a minute", "count": 10, "rows": rows}, tmp_path / "drift.png")
    assert path.stat().st_size > 1000


def test_recorded_figures_are_short_where_the_page_says_so():
    page = (ROOT / "docs" / "studio.md").read_text(encoding="utf-8")
    listed = re.search(r"^Short of what is asked.*?\n\n", page, re.DOTALL | re.MULTILINE)
    assert listed
    said = {tuple(name.split(": ")) for name in re.findall(r"`(\w+: [^`]+)`", listed[0])}
    assert {task for task, _ in said} <= TASKS.keys()
    file = ROOT / "sora_jax" / "weights" / "playground" / "studio_figures.json"
    if not file.exists():
        return
    tasks = json.loads(file.read_text(encoding="utf-8"))["tasks"]
    short = {
        (name, row["name"]) for name, task in tasks.items() for row in task["rows"] if row["met"] is False
    }
    assert short == {(task, row) for task, row in said if task in tasks}


@pytest.mark.parametrize("motion", ["moves right", "circles around", "bounces"])
def test_how_far_an_object_is_from_where_it_should_be(motion):
    config = dataclasses.replace(tiny_model.CONFIG.defaults, height=64, width=64, frames=25)
    pipeline = Pipeline(tiny_model.checkpoint())
    pipeline.config = dataclasses.replace(pipeline.config, defaults=config)
    scene = fresh_scene(3, motion=motion)
    true = shot_of(pipeline, scene)
    late = Clip(true.frames[5:], true.fps)
    assert max(off_path(late, frame, true, frame + 5) for frame in range(20)) < 0.05
    right = Clip(np.roll(true.frames, 3, axis=2), true.fps)
    assert off_path(right, 12, true, 12) == pytest.approx(3, abs=0.1)
    empty = Clip(np.broadcast_to(true.frames[:, :1, :1], true.frames.shape).copy(), true.fps)
    assert off_path(empty, 12, true, 12) == 99


@pytest.mark.slow
@pytest.mark.parametrize("name", TASKS)
def test_each_case_runs(name):
    config = dataclasses.replace(tiny_model.CONFIG.defaults, height=32, width=64, frames=17, fps=8.0)
    checkpoint = tiny_model.checkpoint()
    config = dataclasses.replace(checkpoint.config, defaults=config)
    pipeline = Pipeline(dataclasses.replace(checkpoint, config=config))
    case = TASKS[name].case(pipeline, 0, {"progress": False, "steps": 2})
    assert case.truths or case.figures
    assert set(TASKS[name].needs) <= set(case.truths) | set(case.figures)
