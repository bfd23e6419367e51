"""The commands that edit clips: files in, a file out, or one sentence."""

import json

import numpy as np
import pytest
import tiny_model

from sora_jax.cli.main import main
from sora_jax.media import Clip, read

WORDS = "a red circle moves right"


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(tiny_model.write(tmp_path_factory.mktemp("model"), steps=2))


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = np.tanh(np.random.default_rng(0).standard_normal((5, 16, 16, 3), np.float32))
    return str(Clip(frames, 8.0, {"prompt": WORDS}).save(tmp_path_factory.mktemp("clip") / "clip.mp4"))


@pytest.fixture
def picture(tmp_path):
    pixels = np.zeros((1, 16, 16, 3), np.float32) - 1
    pixels[:, :, 8:] = 1
    return str(Clip(pixels, 1.0).save(tmp_path / "picture.png"))


def test_each_edit_writes_a_file(model, clip, picture, work, capsys):
    (work / "cards.json").write_text(json.dumps([{"at": 0, "prompt": WORDS}, {"at": 0.25, "clip": clip}]))
    edits = {
        "extend": ([clip, WORDS, "--seconds", "0.5"], 9),
        "connect": ([clip, clip, WORDS, "--seconds", "0.25"], 12),
        "loop": ([WORDS, "--clip", clip], 7),
        "blend": ([clip, clip, "--curve", "0:0", "0.5:1"], 5),
        "remix": ([clip, WORDS, "--strength", "0.7"], 5),
        "recut": ([clip, WORDS, "--keep", "0-0.25", "--keep", "0.25-0.5@0.5", "--seconds", "0.75"], 6),
        "inpaint": ([clip, WORDS, "--mask", picture], 5),
        "animate": ([picture, WORDS, "--keyframe", f"0.25:{picture}"], 5),
        "storyboard": (["cards.json", "--seconds", "1", "--size", "16x16"], 8),
        "stream": ([WORDS, "--seconds", "0.5"], 4),
    }
    for name, (arguments, frames) in edits.items():
        out = work / f"{name}.webp"
        assert main([name, *arguments, "--model", model, "--out", str(out)]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.strip() == str(out)
        made = read(out)
        assert len(made) == frames, name
        assert made.metadata["operation"] == name


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["extend", "none.mp4", WORDS, "--seconds", "1"], "none.mp4"),
        (["recut", "CLIP", WORDS, "--keep", "1to2"], "write it like 0.5-2"),
        (["recut", "CLIP", WORDS, "--keep", "3-4", "--model", "MODEL"], "doesn't lie in the clip"),
        (["blend", "CLIP", "CLIP", "--curve", "1:a"], "isn't a point of a curve"),
        (["animate", "CLIP", WORDS, "--keyframe", "x.png"], "isn't SECOND:FILE"),
        (["inpaint", "CLIP", WORDS, "--around", "16:9", "--span", "0-1"], "without --mask and --span"),
        (["storyboard", "bad.json", "--seconds", "1"], "isn't JSON"),
        (["storyboard", "odd.json", "--seconds", "1"], "card 1 of odd.json: when is 1"),
        (["storyboard", "late.json", "--seconds", "1"], "has no time"),
        (["extend", "CLIP", WORDS, "--seconds", "1", "--out", "clip.txt"], "txt"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, says, model, clip, work, capsys):
    for name, text in (("bad", "["), ("odd", '[{"when": 1}]'), ("late", '[{"prompt": "a"}]')):
        (work / f"{name}.json").write_text(text)
    swap = {"CLIP": clip, "MODEL": model}
    assert main([swap.get(one, one) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
