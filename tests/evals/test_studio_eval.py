"""The figures of the edits: counted and averaged as they should be, and every case runs to its end."""

import dataclasses
import json

import numpy as np
import pytest
import tiny_model

from sora_jax.evals import studio
from sora_jax.evals.studio import TASKS, Task, evaluate_studio
from sora_jax.evals.studio_cases import Case, _off, _shot, draw_scene
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


@pytest.mark.parametrize("motion", ["moves right", "circles around", "bounces"])
def test_how_far_an_object_is_from_where_it_should_be(motion):
    config = dataclasses.replace(tiny_model.CONFIG.defaults, height=64, width=64, frames=25)
    pipeline = Pipeline(tiny_model.checkpoint())
    pipeline.config = dataclasses.replace(pipeline.config, defaults=config)
    scene = draw_scene(2**40 + 3, objects=1, motion=motion, camera="still", light="steady", occluder=False)
    true = _shot(pipeline, scene)
    late = Clip(true.frames[5:], true.fps)
    assert max(_off(late, frame, true, frame + 5) for frame in range(20)) < 0.05
    right = Clip(np.roll(true.frames, 3, axis=2), true.fps)
    assert _off(right, 12, true, 12) == pytest.approx(3, abs=0.1)
    empty = Clip(np.broadcast_to(true.frames[:, :1, :1], true.frames.shape).copy(), true.fps)
    assert _off(empty, 12, true, 12) == 99


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
