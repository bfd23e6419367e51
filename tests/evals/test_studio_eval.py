"""The figures of the edits: counted and averaged as they should be, and every case runs to its end."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_model

from sora_jax.evals import studio
from sora_jax.evals.studio import TASKS, Task, evaluate_studio
from sora_jax.evals.studio_cases import Case, _jump, _shot, draw_scene
from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline

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


@pytest.mark.parametrize("motion", ["moves right", "circles around"])
def test_a_jump_is_a_velocity_that_known_frames_do_not_lead_to(motion):
    config = dataclasses.replace(tiny_model.CONFIG.defaults, height=64, width=64, frames=17)
    pipeline = Pipeline(tiny_model.checkpoint())
    pipeline.config = dataclasses.replace(pipeline.config, defaults=config)
    scene = draw_scene(2**40 + 3, objects=1, motion=motion, camera="still", light="steady", occluder=False)
    true = _shot(pipeline, scene)
    assert _jump(true, 8, known="before") < 0.8
    assert _jump(true, 8, known="after") < 0.8
    halted = Clip(np.concatenate([true.frames[:8], np.repeat(true.frames[7:8], 9, axis=0)]), true.fps)
    assert _jump(halted, 8, known="before") > 1
    turned = Clip(halted.frames[::-1], true.fps)
    assert _jump(turned, 9, known="after") == pytest.approx(_jump(halted, 8, known="before"))


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
