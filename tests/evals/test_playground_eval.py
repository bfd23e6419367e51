"""The evaluation on models whose figures are known: one that paints what it is told, one that paints something else."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_model

from sora_jax.cli.main import main
from sora_jax.data.playground.claims import parse
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import draw_scene
from sora_jax.data.playground.splits import is_held_out
from sora_jax.evals.playground import FRESH, GROUPS, evaluate, prompts_of, vae_psnr
from sora_jax.evals.report import table, write_json, write_sheet
from sora_jax.media import from_uint8
from sora_jax.models.config import MODELS


class Painter:
    """A pipeline that draws the scene of the prompt, or of `always`."""

    config = MODELS["playground"]

    def __init__(self, always=None, error=0.0):
        self.always, self.error, self.batches = always, error, []

    def sample(self, request):
        self.batches.append(request.prompts)
        return SimpleNamespace(latents=[self.always or prompt for prompt in request.prompts])

    def decode_batch(self, latents):
        if isinstance(latents, np.ndarray):
            return latents + self.error
        return np.stack([from_uint8(render(self.scene(prompt))) for prompt in latents])

    def encode(self, pixels):
        return pixels

    def scene(self, prompt):
        claims = parse(prompt)
        one = claims.objects[0]
        named = {
            "shape": one.shape,
            "color": one.color,
            "motion": one.motion,
            "size": one.size,
            "background": claims.background,
            "background_color": claims.background_color,
            "camera": claims.camera or "still",
            "light": claims.light or "steady",
            "occluder": bool(claims.occluder),
        }
        want = {name: value for name, value in named.items() if value is not None}
        return draw_scene(5, split="all", objects=len(claims.objects), **want)


@pytest.mark.parametrize("name", GROUPS)
def test_captions_name_what_their_group_is_about(name):
    group = GROUPS[name]
    prompts = prompts_of(group, 24)
    assert prompts == prompts_of(group, 24)
    assert len(set(prompts)) > 8
    for prompt in prompts:
        claims = parse(prompt)
        assert len(claims.objects) == group.objects
        held_out = [is_held_out(o.color, o.shape, o.motion) for o in claims.objects]
        assert any(held_out) == (group.split == "held_out")
    setting = {"background", "camera", "light", "occluder"}
    named = {a for a in setting if any(getattr(parse(prompt), a) is not None for prompt in prompts)}
    assert named == ({name} & setting)


def test_attribute_groups_ask_for_every_value():
    cameras = {parse(prompt).camera for prompt in prompts_of(GROUPS["camera"], 8)}
    assert cameras == {"pans left", "pans right", "zooms in", "zooms out"}
    assert {parse(prompt).light for prompt in prompts_of(GROUPS["light"], 4)} == {"gets dark", "gets bright"}
    assert {parse(p).objects[0].size for p in prompts_of(GROUPS["size"], 4)} == {"small", "large"}


def test_a_model_that_paints_what_it_is_told_is_right():
    names = [name for name in GROUPS if name != "two_objects"]  # the painter only minds the first object
    painter, seen = Painter(), []
    result = evaluate(
        painter, count=6, groups=names, batch=4, progress=lambda name, done, total: seen.append((name, done))
    )
    for name in names:
        figures = result.figures["groups"][name]
        assert figures["count"] == 6
        assert figures["rate"] >= 5 / 6, (name, [one.label for one in result.failures])
        assert figures["low"] <= figures["rate"] <= figures["high"]
    assert all(len(batch) == 4 for batch in painter.batches)  # the last batch is filled up: one program
    assert seen[:2] == [("one_object", 0), ("one_object", 1)]
    assert [shown.seed for shown in result.successes if shown.group == "bounces"][:2] == [0, 1]


def test_a_model_that_paints_something_else_is_wrong():
    result = evaluate(
        Painter(always="a white heart shrinks"), count=8, groups=["held_out"], batch=8, seed=40, keep=3
    )
    figures = result.figures["groups"]["held_out"]
    assert figures["right"] == 0
    assert figures["attributes"]["objects"]["rate"] == 1
    assert figures["attributes"]["motion"]["rate"] < 0.5
    assert len(result.failures) == 3
    assert result.failures[0].label.startswith("held_out 40: ")
    assert "wrong: " in result.failures[0].label
    assert result.successes == []


def test_prompts_of_your_own():
    prompts = ["a red circle moves right", "A large blue square rests on a brown backdrop."]
    figures = evaluate(Painter(), prompts=prompts, batch=2).figures
    assert list(figures["groups"]) == ["prompts"]
    assert figures["groups"]["prompts"]["count"] == 2
    assert "vae" not in figures
    with pytest.raises(ValueError, match="claims nothing"):
        evaluate(Painter(), prompts=["hello there"])
    with pytest.raises(ValueError, match="no group 'ears'"):
        evaluate(Painter(), groups=["ears"])
    with pytest.raises(ValueError, match="at least 1"):
        evaluate(Painter(), count=0)


def test_psnr_of_a_known_error():
    figures = vae_psnr(Painter(error=0.02), 5, batch=2)
    assert figures["psnr"] == pytest.approx(40.0, abs=1e-2)  # 10 log10(4 / 0.02²)
    assert figures["count"] == 5
    assert FRESH > 2**31


def test_reports(tmp_path):
    result = evaluate(Painter(), count=2, groups=["one_object", "vae"], batch=2)
    path = write_json(result.figures, tmp_path / "figures.json")
    assert json.loads(path.read_text())["groups"]["one_object"]["count"] == 2
    assert table(result.figures).row_count >= 2
    assert write_sheet(result.successes, tmp_path / "good.png").stat().st_size > 0
    (tmp_path / "bad.png").write_text("from an earlier run")
    assert write_sheet([], tmp_path / "bad.png") is None
    assert sorted(file.name for file in tmp_path.iterdir()) == ["figures.json", "good.png"]


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sora_jax.cli.main._prepare", lambda: None)
    model = tiny_model.write(tmp_path / "model", height=32, width=32)  # the oracle needs as much
    (tmp_path / "prompts.txt").write_text("# two\na red circle moves right\n\na blue star spins\n")
    common = ["--model", str(model), "--out", str(tmp_path / "out"), "--batch", "2"]
    prompts = ["--prompts", str(tmp_path / "prompts.txt")]
    assert main(["eval", "playground", *prompts, "--json", *common]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures["groups"]["prompts"]["count"] == 2
    assert figures["settings"] == {"steps": 3, "guidance": 2.0, "sampler": "unipc"}
    assert json.loads((tmp_path / "out" / "figures.json").read_text()) == figures
    assert main(["eval", "playground", "--count", "2", "--groups", "one_object", *common]) == 0
    assert "one object" in capsys.readouterr().out
    assert main(["eval", "playground", "--groups", "ears", *common]) == 2
    (tmp_path / "prompts.txt").write_text("\n")
    assert main(["eval", "playground", *prompts, *common]) == 2
