"""`sora-jax generate` from the command line to the file, on random weights."""

import os
import shutil

import numpy as np
import pytest
from PIL import Image

from sora_jax.cli.main import main
from sora_jax.media import read, read_metadata

PROMPT = "a red circle moves right"


def run(model, *options):
    return main(["generate", PROMPT, "--model", str(model), *map(str, options)])


@pytest.mark.parametrize("ending", ["mp4", "webm", "gif", "webp"])
def test_makes_a_clip_that_says_how_it_was_made(ending, model, work, capsys):
    assert run(model, "--out", f"clip.{ending}", "--seed", 3, "--guidance", 1.5) == 0
    assert capsys.readouterr().out.strip() == f"clip.{ending}"
    assert read(work / f"clip.{ending}").frames.shape == (5, 16, 16, 3)
    made = {"prompt": PROMPT, "seed": 3, "guidance": 1.5, "steps": 3, "model": "playground_tiny"}
    assert made.items() <= read_metadata(work / f"clip.{ending}").items()
    assert os.listdir(work) == [f"clip.{ending}"]


def test_the_same_seed_gives_the_same_bytes(model, work):
    for name in ("a", "b"):
        assert run(model, "--out", f"{name}.mp4", "--seed", 7) == 0
    assert run(model, "--out", "c.mp4", "--seed", 8) == 0
    a, b, c = ((work / f"{name}.mp4").read_bytes() for name in "abc")
    assert a == b != c


def test_the_name_comes_from_the_prompt_and_replaces_nothing(model, work, capsys):
    assert run(model) == 0
    assert run(model) == 0
    names = ["a-red-circle-moves-right.mp4", "a-red-circle-moves-right-2.mp4"]
    assert capsys.readouterr().out.split() == names
    assert sorted(os.listdir(work)) == sorted(names)


def test_variations_are_files_with_seeds_of_their_own(model, work, capsys):
    assert run(model, "--variations", 2, "--out", "clip.png", "--seed", 4) == 0
    assert capsys.readouterr().out.split() == ["clip-1.png", "clip-2.png", "clip-sheet.png"]
    assert [read_metadata(work / f"clip-{i}.png")["seed"] for i in (1, 2)] == [4, 5]
    assert read_metadata(work / "clip-sheet.png")["seeds"] == [4, 5]
    assert read(work / "clip-sheet.png").frames.shape[1] > 2 * 96  # a row of frames for each


def test_variations_replace_nothing(model, work, capsys):
    for _ in range(2):
        assert run(model, "--variations", 2, "--steps", 1) == 0
    stem = "a-red-circle-moves-right"
    ends = ["1.mp4", "2.mp4", "sheet.png", "2-1.mp4", "2-2.mp4", "2-sheet.png"]
    assert sorted(os.listdir(work)) == sorted(f"{stem}-{end}" for end in ends)


def test_an_image_is_what_the_clip_starts_with(model, work):
    clips = []
    for name, color in (("red", "red"), ("blue", "blue")):
        Image.new("RGB", (32, 16), color).save(work / f"{name}.png")
        assert run(model, "--image", f"{name}.png", "--out", f"{name}.mp4", "--frames", 3, "--steps", 1) == 0
        clips.append(read(work / f"{name}.mp4").frames)
    assert clips[0].shape == (3, 8, 16, 3)
    assert np.abs(clips[0] - clips[1]).max() > 0.02


def test_unknown_words_are_named_and_the_clip_is_made(model, work, capsys):
    assert main(["generate", "a red zebra", "--model", str(model), "--out", "clip.gif"]) == 0
    error = capsys.readouterr().err
    assert "note: words this model never saw: zebra. It knows shapes (circle" in error
    assert (work / "clip.gif").exists()


def test_a_chat_endpoint_is_asked_without_being_told_to_expand(model, work, capsys):
    assert run(model, "--chat", "http://127.0.0.1:9/v1", "--out", "clip.gif") == 1
    assert "gives no chat answer" in capsys.readouterr().err
    assert os.listdir(work) == []


def test_fewer_evaluations_in_half_precision(model, work):
    assert run(model, "--out", "clip.gif", "--steps", 6, "--cache", "0.3", "--dtype", "bfloat16") == 0
    made = {"cache": "tea:0.3", "dtype": "bfloat16", "steps": 6}
    assert made.items() <= read_metadata(work / "clip.gif").items()


WRONG = {
    "a caching rule that isn't there": (["generate", "a red circle", "--cache", "magic:1"], "first-block"),
    "an empty prompt": (["generate", ""], "empty"),
    "blanks": (["generate", "   "], "empty"),
    "a prompt of 100,000 letters": (["generate", "a" * 100_000], "100,000"),
    "no known word": (["generate", "zebra unicorn"], "knows no word"),
    "a size that doesn't fit": (["generate", PROMPT, "--size", "20x16"], "16 and 24"),
    "a size that is none": (["generate", PROMPT, "--size", "big"], "WIDTHxHEIGHT"),
    "an aspect that is none": (["generate", PROMPT, "--aspect", "16-9"], "WIDTH:HEIGHT"),
    "a length that doesn't fit": (["generate", PROMPT, "--frames", "4"], "3 and 5"),
    "no length": (["generate", PROMPT, "--seconds", "0"], "above 0"),
    "an endless clip": (["generate", PROMPT, "--seconds", "1e9"], "at most"),
    "a negative length": (["generate", PROMPT, "--seconds", "-2"], "above 0"),
    "no frame rate": (["generate", PROMPT, "--fps", "0"], "fps"),
    "a clip beyond memory": (["generate", PROMPT, "--size", "8192x8192", "--frames", "4097"], "GiB"),
    "a negative count": (["generate", PROMPT, "--variations", "-4"], "variations"),
    "a huge count": (["generate", PROMPT, "--variations", "1000000000"], "variations"),
    "no steps": (["generate", PROMPT, "--steps", "0"], "1 to 1000"),
    "a negative seed": (["generate", PROMPT, "--seed", "-1"], "seed"),
    "guidance that is no number": (["generate", PROMPT, "--guidance", "nan"], "guidance"),
    "guidance of a second expert": (["generate", PROMPT, "--guidance-2", "3"], "has one expert"),
    "no such image": (["generate", PROMPT, "--image", "nothing.png"], "nothing.png"),
    "a last image alone": (["generate", PROMPT, "--last-image", "PICTURE"], "from its first image"),
    "more shards than devices": (["generate", PROMPT, "--shards", "9"], "from 1 to the 8 devices"),
    "an unknown sampler": (["generate", PROMPT, "--sampler", "magic"], "unipc"),
    "an unknown model": (["generate", PROMPT, "--model", "dall-e"], "playground"),
    "an unknown ending": (["generate", PROMPT, "--out", "clip.avi"], ".mp4"),
    "a folder that isn't there": (["generate", PROMPT, "--out", "nowhere/clip.mp4"], "nowhere"),
    "a folder as the file": (["generate", PROMPT, "--out", "folder.mp4"], "folder"),
    "an unknown command": (["genrate", PROMPT], "generate"),
    "no such experiment": (["sample", "nothing.py"], "nothing.py"),
    "no such prompts": (["eval", "playground", "--prompts", "nothing.txt"], "nothing.txt"),
}


@pytest.mark.parametrize("case", WRONG)
def test_bad_input_is_one_sentence_and_nothing_is_left(case, model, work, capsys):
    arguments, says = WRONG[case]
    (work / "folder.mp4").mkdir()
    picture = work.parent / "picture.png"
    Image.new("RGB", (16, 16), "red").save(picture)
    arguments = [str(picture) if word == "PICTURE" else word for word in arguments]
    if arguments[0] == "generate" and "--model" not in arguments:
        arguments = [*arguments, "--model", str(model)]
    assert main(arguments) == 2
    out, error = capsys.readouterr()
    assert out == ""
    line = error.strip().splitlines()[-1]
    assert line.startswith("sora-jax: ")
    assert says in line
    assert len([text for text in error.splitlines() if text.startswith("sora-jax:")]) == 1
    assert "Traceback" not in error
    assert os.listdir(work) == ["folder.mp4"]


def test_a_place_that_cannot_be_written_is_refused_before_sampling(model, work, capsys, monkeypatch):
    (work / "shut").mkdir()
    monkeypatch.setattr("os.access", lambda path, mode: "shut" not in str(path))  # root may write anywhere
    assert run(model, "--out", "shut/clip.mp4") == 2
    assert "shut cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["dit.safetensors", "config.json", "tokenizer.model"])
def test_weights_cut_short_are_refused(name, model, work, tmp_path, capsys):
    broken = tmp_path / "broken"
    shutil.copytree(model, broken)
    data = (broken / name).read_bytes()
    (broken / name).write_bytes(data[: len(data) // 2])
    assert run(broken, "--out", "clip.mp4") == 2
    assert name in capsys.readouterr().err.splitlines()[-1]
    assert os.listdir(work) == []


def test_weights_of_another_config_are_refused(model, work, tmp_path, capsys):
    other = tmp_path / "other"
    shutil.copytree(model, other)
    config = (other / "config.json").read_text()
    (other / "config.json").write_text(config.replace('"ffn_width": 16', '"ffn_width": 24'))
    assert run(other, "--out", "clip.mp4") == 2
    assert "shape" in capsys.readouterr().err
    assert os.listdir(work) == []


def test_a_failed_write_leaves_nothing(model, work, capsys, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    assert run(model, "--out", "clip.mp4") == 1
    assert "No space left" in capsys.readouterr().err
    assert os.listdir(work) == []


def test_an_interrupt_says_so(model, work, capsys, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sora_jax.studio.pipeline.Pipeline.sample", stop)
    assert run(model, "--out", "clip.mp4") == 130
    assert "interrupted" in capsys.readouterr().err
    assert os.listdir(work) == []


def test_frames_come_back_from_the_file(model, work):
    assert run(model, "--out", "clip.webp", "--frames", 1) == 0
    assert read(work / "clip.webp").frames.shape == (1, 16, 16, 3)
    assert np.isfinite(read(work / "clip.webp").frames).all()
