"""Every bench runs, at a size that takes no time, and its record can be read."""

import dataclasses
import json
import math

import jax
import pytest
import tiny_model

from sora_jax.cli.main import main
from sora_jax.evals.bench import sizes
from sora_jax.evals.bench.record import read
from sora_jax.models.config import MODELS
from sora_jax.weights.shapes import parameter_shapes

ONCE = ["--repeats", "1", "--seconds", "0", "--warmup", "0"]


@pytest.fixture(autouse=True)
def tiny(monkeypatch):
    monkeypatch.setitem(sizes.SIZES, "tiny", tiny_model.CONFIG)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes an int32 count with float32
        yield


@pytest.fixture
def bench(tmp_path, capsys):
    def run(*arguments):
        out = tmp_path / "record.json"
        assert main(["bench", *arguments, "--out", str(out)]) == 0
        printed = capsys.readouterr().out
        made = read(out)
        assert made.bench == arguments[0]
        assert all(measure.name in " ".join(printed.split()) for measure in made.measures[:1])
        return made

    return run


@pytest.mark.slow
def test_the_training_step(bench):
    made = bench("train", "--model", "tiny", "--batch-size", "8", "--remat", "full", *ONCE)
    (step,) = made.measures
    assert made.mesh == {"data": 8, "fsdp": 1, "context": 1, "tensor": 1}
    assert made.settings["remat"] == "full"
    assert step.per_second["tokens"] == pytest.approx(8 * 3 * 2 * 2 / step.seconds.median)
    # What is computed again is no part of the mathematics.
    assert 0 < step.flops < step.figures["flops_computed"]
    assert step.share_of_peak == pytest.approx(step.flops_per_second / 1e9)
    assert step.compile_seconds > 0
    assert step.memory_bytes > 0
    assert made.peak_memory_bytes > 0


EXPERIMENT = """
from sora_jax.data.sources import DataConfig
from sora_jax.train.dit import DiTRun
from sora_jax.train.vae import VAERun
import tiny_model

DATA = DataConfig(count=8, height=16, width=16, frames=5)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "run",
    [
        "DiTRun(model=tiny_model.CONFIG, vae='none', data=DATA, batch_size=8, caption_tokens=8)",
        "VAERun(model=tiny_model.CONFIG.vae, data=DATA, crop_size=16, crop_frames=None, batch_size=8)",
    ],
)
def test_an_experiments_step_and_its_wait(bench, tmp_path, run):
    path = tmp_path / "experiment.py"
    path.write_text(f"{EXPERIMENT}\nEXPERIMENT = {run}\n")
    step, waited = bench("train", "--experiment", str(path), "--steps", "2", *ONCE).measures
    assert step.seconds.repeats == 1
    assert 0 <= waited.figures["data_wait"] <= 1
    assert waited.figures["steps_per_second"] > 0


def test_generations(bench):
    made = bench("sample", "--model", "tiny", "--steps", "2", *ONCE)
    whole, latents, decoding = made.measures
    assert [m.name for m in made.measures] == ["generation", "latents", "decoding"]
    assert whole.flops == latents.flops + decoding.flops
    assert whole.figures["seconds_per_clip_second"] == pytest.approx(whole.seconds.median / (5 / 8))


def test_edits_cost_what_a_generation_and_their_inputs_do(bench):
    made = bench("edits", "--model", "tiny", "--steps", "2", "--only", "remix", *ONCE)
    edit, generation, encoding = made.measures
    assert [m.variant for m in made.measures] == ["edit", "generation", "encoding"]
    assert edit.figures["frames"] == generation.figures["frames"] == 5
    against = generation.seconds.median + encoding.seconds.median
    assert edit.figures["times_a_generation"] == pytest.approx(edit.seconds.median / against)


@pytest.mark.slow
def test_every_edit_is_timed(bench):
    from sora_jax.evals.bench.edits import EDITS

    made = bench("edits", "--model", "tiny", "--steps", "2", *ONCE)
    assert {m.name for m in made.measures} == set(EDITS)


def test_the_vae(bench):
    encode, decode = bench("vae", "--model", "tiny", "--frames", "3", "--size", "16x8", *ONCE).measures
    assert (encode.name, decode.name) == ("VAE encode", "VAE decode")
    assert encode.per_second["pixels"] == pytest.approx(3 * 16 * 8 / encode.seconds.median)
    assert decode.flops > 0


def test_data(bench):
    made = bench("data", "--size", "16x16", "--frames", "5", "--batch-size", "4", *ONCE)
    assert [m.variant for m in made.measures] == ["playground", "windows", "folder", "latents"]
    assert all(m.per_second["examples"] > 0 for m in made.measures)


def test_operations(bench, monkeypatch):
    from sora_jax.evals.bench import ops

    case = dataclasses.replace(ops.CASES[3], shapes=((1, 8, 2, 4),) * 3)
    monkeypatch.setattr(ops, "CASES", (case,))
    made = bench("ops", *ONCE)
    assert len(made.measures) == 2 * len(case.lowerings)
    assert made.measures[0].figures["times_as_fast"] == 1


def test_json_is_the_record(capsys):
    assert main(["bench", "vae", "--model", "tiny", "--frames", "1", "--size", "8x8", *ONCE, "--json"]) == 0
    tree = json.loads(capsys.readouterr().out)
    assert tree["schema"] == 1
    assert tree["measures"][0]["seconds"]["repeats"] == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train", "--model", "huge"], "there is no size 'huge'"),
        (["train", "--repeats", "0"], "repeats is 0"),
        (["ops", "--only", "nothing"], "no case has 'nothing'"),
        (["data", "--only", "nothing"], "playground; windows"),
        (["edits", "--only", "nothing"], "no edit has 'nothing'"),
        (["cache", "--only", "nothing"], "tea; first-block; mag"),
        (["peers", "--only", "nothing"], "DiT playground, forward"),
        (["vae", "--model", "tiny", "--size", "9x8"], "nearest are 8 and 16"),
    ],
)
def test_what_can_t_be_measured_is_said(arguments, said, capsys):
    assert main(["bench", *arguments]) == 2
    assert said in " ".join(capsys.readouterr().err.split())


def test_the_size_in_between_has_100_million_parameters():
    config = sizes.SIZES["100m"]
    count = sum(math.prod(shape) for shape in parameter_shapes(config.dit).values())
    assert 95e6 < count < 105e6
    assert "100m" not in MODELS
