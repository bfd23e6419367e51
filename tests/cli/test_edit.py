"""The commands that edit clips: files in, a file out, or one sentence."""

import inspect
import json

import av
import numpy as np
import pytest

from sora_jax.cli.main import main
from sora_jax.media import Clip, read
from sora_jax.studio.pipeline import Pipeline

WORDS = "a red circle moves right"


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    frames = np.tanh(np.random.default_rng(0).standard_normal((5, 16, 16, 3), np.float32))
    return str(Clip(frames, 8.0, {"prompt": WORDS}).save(tmp_path_factory.mktemp("clip") / "clip.mp4"))


@pytest.fixture
def picture(tmp_path):
    pixels = np.zeros((1, 16, 16, 3), np.float32) - 1
    pixels[:, :, 8:] = 1
    return str(Clip(pixels, 1.0).save(tmp_path / "picture.png"))


class Recorder:
    """In place of a pipeline: checks each call against the edit's signature, and gives a clip."""

    def __init__(self):
        self.calls = {}

    def __getattr__(self, name):
        def call(*arguments, **options):
            bound = inspect.signature(getattr(Pipeline, name)).bind(self, *arguments, **options)
            self.calls[name] = bound.arguments
            clip = Clip(np.zeros((5, 16, 16, 3), np.float32), 8.0, {"operation": name})
            if count := options.get("variations"):
                seeds = range(options["seed"], options["seed"] + count)
                return [Clip(clip.frames, clip.fps, {"seed": seed}) for seed in seeds]
            return iter([clip, clip]) if name == "stream" else clip

        return call


def test_each_command_says_what_its_edit_takes(clip, picture, work, capsys, monkeypatch):
    (work / "cards.json").write_text(json.dumps([{"at": 0, "prompt": WORDS}, {"at": 0.25, "clip": clip}]))
    recorder = Recorder()
    monkeypatch.setattr("sora_jax.studio.pipeline.load", lambda *_, **__: recorder)
    edits = {
        "extend": (
            [clip, WORDS, "--seconds", "0.5", "--direction", "both"],
            {"seconds": 0.5, "direction": "both"},
        ),
        "connect": ([clip, clip, WORDS, "--seconds", "0.25"], {"seconds": 0.25}),
        "loop": ([WORDS, "--clip", clip], {"prompt": WORDS}),
        "blend": ([clip, clip, "--curve", "0:0", "0.5:1"], {"curve": [(0, 0), (0.5, 1)], "prompts": None}),
        "remix": ([clip, WORDS, "--strength", "0.7"], {"strength": 0.7}),
        "recut": (
            [clip, WORDS, "--keep", "0-0.25", "--keep", "0.25-0.5@0.5"],
            {"keep": [(0, 0.25), (0.25, 0.5, 0.5)]},
        ),
        "inpaint": ([clip, WORDS, "--mask", picture, "--span", "0-1"], {"span": (0, 1)}),
        "outpaint": ([clip, WORDS, "--around", "16:9"], {"aspect": "16:9"}),
        "animate": ([picture, WORDS, "--seconds", "2"], {"seconds": 2, "keyframes": {}}),
        "storyboard": (["cards.json", "--seconds", "1", "--size", "16x16"], {"seconds": 1}),
        "stream": ([WORDS, WORDS, "--seconds", "0.5"], {"prompt": (WORDS, WORDS), "seconds": 0.5}),
    }
    for name, (arguments, expected) in edits.items():
        out = work / f"{name}.webp"
        command = "inpaint" if name == "outpaint" else name
        assert main([command, *arguments, "--seed", "3", "--out", str(out)]) == 0, capsys.readouterr().err
        assert capsys.readouterr().out.strip() == str(out)
        assert read(out).metadata["operation"] == name
        called = recorder.calls[name]
        settings = {**called, **called.pop("settings")}
        assert {**expected, "seed": 3}.items() <= settings.items(), name


def test_every_command_takes_the_settings_of_generate(clip, picture, work, monkeypatch, capsys):
    given = {"--guidance-2": 3.0, "--history": 0.5, "--cache": "0.2", "--preset": "night"}
    words = [word for pair in given.items() for word in map(str, pair)]
    loaded = {}
    recorder = Recorder()
    monkeypatch.setattr(
        "sora_jax.studio.pipeline.load", lambda *_, **options: loaded.update(options) or recorder
    )
    for name, arguments in {
        "remix": [clip, WORDS],
        "stream": [WORDS, "--seconds", "0.5"],
        "animate": [picture, WORDS],
    }.items():
        command = [name, *arguments, *words, "--expand", "--quantize", "int8", "--shards", "2"]
        assert main([*command, "--out", "clip.webp"]) == 0, capsys.readouterr().err
        settings = recorder.calls[name]["settings"]
        assert "a red circle stays still" in settings["expand"]("red circle")
        assert "prompt: The scene" in capsys.readouterr().err
        made = {key.strip("-").replace("-", "_"): value for key, value in given.items()}
        del made["preset"]
        assert {**made, "presets": ("night",)}.items() <= settings.items()
        assert (loaded["quantize"], loaded["mesh"].size) == ("int8", 2)


def test_variations_of_an_edit_and_their_sheet(clip, work, capsys, monkeypatch):
    recorder = Recorder()
    monkeypatch.setattr("sora_jax.studio.pipeline.load", lambda *_, **__: recorder)
    command = ["remix", clip, WORDS, "--variations", "2", "--seed", "4", "--out", "new.webp"]
    assert main(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().out.split() == ["new-1.webp", "new-2.webp", "new-sheet.png"]
    assert [read(f"new-{i}.webp").metadata["seed"] for i in (1, 2)] == [4, 5]
    assert read("new-sheet.png").metadata["seeds"] == [4, 5]


def test_a_script_becomes_a_storyboard(work, monkeypatch, capsys):
    recorder = Recorder()
    monkeypatch.setattr("sora_jax.studio.pipeline.load", lambda *_, **__: recorder)
    script = "A red circle moves right, then it grows. Cut to: a blue star spins"
    (work / "story.txt").write_text(script)
    for given, out in ((script, "a.webp"), ("story.txt", "b.webp")):
        assert main(["storyboard", "--script", given, "--seconds", "6", "--out", out]) == 0
        cards = recorder.calls["storyboard"]["cards"]
        assert [card.prompt for card in cards] == [
            "A red circle moves right",
            "a red circle grows",
            "a blue star spins",
        ]
        shown = capsys.readouterr().err
        assert "card at 2 s: a red circle grows\ncard at 4 s, a cut: a blue star spins\n" in shown
        assert read(out).metadata["script"] == script
    assert main(["storyboard", "--seconds", "6"]) == 2
    assert "give one of cards and --script" in capsys.readouterr().err


def test_an_edit_from_file_to_file(model, clip, work, capsys):
    assert (
        main(["extend", clip, WORDS, "--seconds", "0.25", "--model", str(model), "--out", "longer.mp4"]) == 0
    )
    assert capsys.readouterr().out.strip() == "longer.mp4"
    longer = read("longer.mp4")
    assert longer.frames.shape == (7, 16, 16, 3)
    assert longer.metadata["operation"] == "extend"


def test_sound_that_is_dropped_is_said_once(model, work, capsys):
    with av.open("loud.mp4", "w") as container:
        stream = container.add_stream("libx264", rate=8)
        stream.width = stream.height = 16
        stream.pix_fmt = "yuv420p"
        noise = container.add_stream("aac", rate=44100)
        for frame in np.random.default_rng(0).integers(0, 255, (5, 16, 16, 3), np.uint8):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame)))
        container.mux(stream.encode())
        samples = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), format="fltp", layout="stereo")
        samples.sample_rate = 44100
        container.mux(noise.encode(samples))
        container.mux(noise.encode())
    assert (
        main(["remix", "loud.mp4", WORDS, "--strength", "0", "--model", str(model), "--out", "quiet.mp4"])
        == 0
    )
    notes = [line for line in capsys.readouterr().err.splitlines() if "note" in line]
    assert notes == ["sora-jax: note: loud.mp4: its sound is dropped"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["extend", "none.mp4", WORDS, "--seconds", "1"], "none.mp4"),
        (["recut", "CLIP", WORDS, "--keep", "1to2"], "write it like 0.5-2"),
        (["recut", "CLIP", WORDS, "--keep", "3-4", "--model", "MODEL"], "doesn't lie in the clip"),
        (["blend", "CLIP", "CLIP", "--curve", "1:a"], "isn't a point of a curve"),
        (["animate", "CLIP", WORDS, "--keyframe", "x.png"], "isn't SECOND:FILE"),
        (["recut", "CLIP", WORDS, "--keep", "0-inf", "--model", "MODEL"], "inf is no moment"),
        (["animate", "CLIP", WORDS, "--keyframe", "nan:CLIP", "--model", "MODEL"], "nan is no moment"),
        (["storyboard", "never.json", "--seconds", "1", "--model", "MODEL"], "inf is no moment"),
        (["stream", WORDS, "--seconds", "inf", "--model", "MODEL"], "inf is no moment"),
        (["stream", WORDS, "--seconds", "0", "--model", "MODEL"], "at least 0.125, one frame"),
        (["extend", "CLIP", WORDS, "--seconds", "1", "--fps", "0", "--model", "MODEL"], "fps is 0"),
        (["inpaint", "CLIP", WORDS, "--around", "16:9", "--span", "0-1"], "without --mask and --span"),
        (["storyboard", "bad.json", "--seconds", "1"], "isn't JSON"),
        (["storyboard", "odd.json", "--seconds", "1"], "card 1 of odd.json: when is 1"),
        (["storyboard", "late.json", "--seconds", "1"], "has no time"),
        (["extend", "CLIP", WORDS, "--seconds", "1", "--out", "clip.txt"], "txt"),
    ],
)
def test_what_is_wrong_is_said_in_a_sentence(arguments, says, model, clip, work, capsys):
    texts = {"bad": "[", "odd": '[{"when": 1}]', "late": '[{"prompt": "a"}]'}
    texts["never"] = '[{"at": 0, "prompt": "a red circle"}, {"at": Infinity, "prompt": "a red circle"}]'
    for name, text in texts.items():
        (work / f"{name}.json").write_text(text)
    swap = {"CLIP": clip, "MODEL": str(model), "nan:CLIP": f"nan:{clip}"}
    assert main([swap.get(one, one) for one in arguments]) == 2
    error = capsys.readouterr().err
    assert says in error
    assert len(error.strip().splitlines()) == 1
