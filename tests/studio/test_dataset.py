"""Clips in bulk: killed and resumed, none is lost and none comes twice."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import tiny_model

from sora_jax.cli.main import main
from sora_jax.media import read_metadata
from sora_jax.studio.dataset import make_dataset, read_prompts
from sora_jax.studio.pipeline import Pipeline

PROMPTS = ["a red circle moves right", "a blue star spins", "a green square stays still"]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


def table(folder):
    return [json.loads(line) for line in (folder / "captions.jsonl").read_text().splitlines()]


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
    assert [row["file"] for row in table(tmp_path)] == ["00000000.mp4", "00000001.mp4"]
    captions = make_dataset(pipeline, PROMPTS, tmp_path, **options)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in tmp_path.glob("*.mp4")}.items()
    assert captions == tmp_path / "captions.jsonl"
    rows = table(tmp_path)
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


def test_another_precision_is_another_dataset(pipeline, tmp_path):
    (tmp_path / "00000000.mp4").write_bytes(b"made before")
    make_dataset(pipeline, PROMPTS, tmp_path, count=1)
    half = Pipeline(tiny_model.checkpoint(), "bfloat16")
    with pytest.raises(ValueError, match="another dtype"):
        make_dataset(half, PROMPTS, tmp_path, count=1)


def test_a_dataset_to_train_on_comes_of_it(pipeline, tmp_path, capsys):
    from sora_jax.data.folder import FolderSource

    make_dataset(pipeline, PROMPTS, tmp_path / "made", count=4, batch=2, steps=2)
    options = ["--size", "16x16", "--fps", "8", "--frames", "5"]
    assert main(["data", "folder", str(tmp_path / "made"), "--out", str(tmp_path / "set"), *options]) == 0
    source = FolderSource(tmp_path / "set")
    assert [source[i]["caption"] for i in range(len(source))] == [*PROMPTS, PROMPTS[0]]
    assert source[3]["video"].shape == (5, 16, 16, 3)


@pytest.mark.slow
def test_killed_at_any_moment_it_goes_on(pipeline, tmp_path):
    model = tiny_model.write(tmp_path / "model")
    (tmp_path / "prompts.txt").write_text("\n".join(PROMPTS))
    folder = tmp_path / "made"
    command = [*(sys.executable, "-m", "sora_jax.cli.main", "dataset", str(tmp_path / "prompts.txt"))]
    command += ["--count", "500", "--out", str(folder), "--batch", "3", "--model", str(model)]
    for more in (2, 5):
        wanted = len(list(folder.glob("*.mp4"))) + more
        with subprocess.Popen(command, env={**os.environ, "SORA_JAX_CACHE": str(tmp_path)}) as running:
            while len(list(folder.glob("*.mp4"))) < wanted:
                assert running.poll() is None
                time.sleep(0.01)
            running.kill()
        assert running.returncode == -signal.SIGKILL
        before = {path: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}
        assert {row["file"] for row in table(folder)} <= {path.name for path in before}
    make_dataset(pipeline, PROMPTS, folder, count=len(before) + 2, batch=3)
    assert before.items() <= {path: path.stat().st_mtime_ns for path in folder.glob("*.mp4")}.items()
    rows = table(folder)
    assert [row["file"] for row in rows] == sorted(path.name for path in folder.glob("*.mp4"))
    assert [read_metadata(folder / row["file"])["seed"] for row in rows] == list(range(len(before) + 2))


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
