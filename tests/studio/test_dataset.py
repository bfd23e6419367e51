"""Clips in bulk: killed and resumed, none is lost and none comes twice."""

import json

import pytest
import tiny_model

from sora_jax.media import read_metadata
from sora_jax.studio.dataset import make_dataset, read_prompts
from sora_jax.studio.pipeline import Pipeline

PROMPTS = ["a red circle moves right", "a blue star spins", "a green square stays still"]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


class Stopped(Exception):
    pass


def test_it_goes_on_where_it_was_stopped(pipeline, tmp_path):
    def stop(done: int, total: int) -> None:
        if done == 2:
            raise Stopped

    options = {"count": 4, "seed": 7, "batch": 2, "steps": 2}
    with pytest.raises(Stopped):
        make_dataset(pipeline, PROMPTS, tmp_path, report=stop, **options)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}
    assert len(before) == 2
    captions = make_dataset(pipeline, PROMPTS, tmp_path, **options)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}.items()
    rows = [json.loads(line) for line in captions.read_text().splitlines()]
    assert [row["seed"] for row in rows] == [7, 8, 9, 10]
    for i, row in enumerate(rows):
        about = read_metadata(tmp_path / row["file"])
        assert (about["prompt"], about["seed"]) == (PROMPTS[i % 3], 7 + i)
        assert row["caption"] == PROMPTS[i % 3]
    assert sorted(path.name for path in tmp_path.iterdir() if path.suffix != ".mp4") == [
        "captions.jsonl",
        "dataset.json",
    ]
    with pytest.raises(ValueError, match="another steps: give the same, or another folder"):
        make_dataset(pipeline, PROMPTS, tmp_path, **{**options, "steps": 3})


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("a.jsonl", '{"prompt": "a red circle spins"}\n{"text": 1}', 'line 2 has no "prompt"'),
        ("a.jsonl", "{", "line 1 isn't JSON"),
        ("a.txt", "\n\n", "holds no prompts"),
    ],
)
def test_broken_prompts_are_named(tmp_path, name, text, says):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match=says):
        read_prompts(path)
