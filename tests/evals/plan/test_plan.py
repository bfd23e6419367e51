"""The very step of a run, compiled for devices that aren't there."""

import dataclasses
import importlib.util
import json
import math
from pathlib import Path

import jax
import pytest
import tiny_wan

from sora_jax.data.clips import ClipsConfig
from sora_jax.evals.plan import program
from sora_jax.evals.plan.plan import make_plan
from sora_jax.evals.plan.program import load_work, mesh_of_work, with_settings
from sora_jax.evals.plan.report import outcome, ranking, table
from sora_jax.evals.plan.search import choices, ranked
from sora_jax.evals.plan.stages import stages
from sora_jax.evals.plan.topology import devices_of, parse_topology
from sora_jax.models import vae_tiles
from sora_jax.models.remat import NAMES
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.studio.sample import Sample
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.flops import work_of
from sora_jax.train.vae import VAERun

EXPERIMENTS = Path(__file__).parents[3] / "experiments"
EIGHT = parse_topology("cpu:8")
RUN = FineTuneRun(
    model=tiny_wan.WORDS,
    start_from="given",
    data=ClipsConfig(folder="given", height=16, width=16, frames=5, aspects=()),
    batch_size=8,
    mesh=MeshConfig(data=1, fsdp=4, context=2),
)
SAMPLE = Sample(prompts=("a",), model="words", size="16x16", seconds=0.625, fps=8.0, context=2, shards=2)


@pytest.fixture(scope="module")
def plan():
    return make_plan(RUN, EIGHT, "tiny", samples=1000)


def test_memory_is_the_state_as_it_lies(plan):
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(tiny_wan.checkpoint("words").params["dit"]))
    assert plan.memory["ema"] >= 4 * count / 8
    assert plan.memory["ema"] < 1.5 * 4 * count / 8  # small tables stay whole
    assert plan.memory["optimizer"] == pytest.approx(2 * plan.memory["ema"], rel=0.01)
    assert plan.memory["temporaries"] > 0
    assert plan.hbm_bytes_per_chip == sum(plan.memory.values()) - plan.memory["host"]


def test_own_count_and_the_compiled_program_s_agree(plan):
    # A block is computed again, and on a CPU attention's logits once more.
    assert plan.flops["executed"] == pytest.approx(plan.flops_per_step, rel=0.5)
    assert plan.flops["executed"] > plan.flops_per_step
    # XLA's own figure counts the loop over two blocks once, and what is done element by element too.
    assert 0 < plan.flops["cost_analysis"] < plan.flops["compiled"]
    # On CPU XLA lets devices do small things twice, and never less than there is to do.
    assert 1 <= plan.flops["compiled"] / plan.flops["executed"] < 2
    assert not plan.notes


def test_weights_are_gathered_and_tokens_exchanged(plan):
    sent = plan.collective_bytes["ici"]
    assert sent["all-gather"] > plan.memory["ema"]
    assert sent["all-to-all"] > 0
    assert not any(plan.collective_bytes["dcn"].values())


def test_without_a_table_of_peaks_no_time_is_told(plan):
    assert (plan.fits, plan.hbm_limit_bytes, plan.step_seconds_roofline, plan.mfu_bound) == (None,) * 4
    assert plan.chip_hours is None


def test_the_record_has_the_promised_keys(plan):
    record = json.loads(json.dumps(plan.record()))
    promised = "topology chips mesh fits hbm_bytes_per_chip hbm_limit_bytes flops_per_step collective_bytes"
    assert {*promised.split(), "step_seconds_roofline", "mfu_bound", "compile_seconds"} <= set(record)
    assert record["mesh"] == {"data": 1, "fsdp": 4, "context": 2, "tensor": 1}


def test_tables_are_drawn(plan, capsys):
    from rich.console import Console

    unfit = dataclasses.replace(plan, fits=False, hbm_bytes_per_chip=3 * 2**30, hbm_limit_bytes=2**31)
    assert outcome(unfit) == "does not fit: needs 3.0 of 2.0 GiB a chip"
    bounded = dataclasses.replace(
        plan,
        step_seconds={"compute": 2.0, "memory": 1.0, "ici": 0.5, "dcn": 0.0},
        step_seconds_roofline=2.0,
        mfu_bound=0.5,
        limit="compute",
        chip_hours=3.0,
    )
    Console(width=120).print(table(bounded), ranking(ranked([unfit, bounded])))
    shown = capsys.readouterr().out
    for words in ("all-gather", "MFU at most", "50.0 %", "1,000 clips at least", "price not known"):
        assert words in shown
    assert ranked([unfit, bounded])[0] is bounded


def test_a_sampling_step(monkeypatch, capsys):
    monkeypatch.setitem(program.MODELS, "words", tiny_wan.WORDS)
    plan = make_plan(SAMPLE, parse_topology("cpu:4"), "tiny")
    assert plan.settings["steps"] == tiny_wan.WORDS.defaults.steps
    # A guided step is two evaluations of the denoiser.
    latents, dit = tiny_wan.WORDS.vae.latent_shape(5, 16, 16), tiny_wan.WORDS.dit
    tokens, text = math.prod(latents[:3]) // math.prod(dit.patch), tiny_wan.WORDS.text.max_length
    products = tokens * (6 * dit.width**2 + 2 * dit.width * dit.ffn_width) + text * 2 * dit.width**2
    attention = 2 * tokens * (tokens + text) * dit.width
    embedding = text * (dit.text_width + dit.width) * dit.width
    expected = 2 * 2 * (dit.depth * (products + attention) + embedding)
    assert plan.flops_per_step == pytest.approx(expected, rel=0.05)
    assert plan.memory["latents"] > 0
    text, decoder = plan.stages["text"], plan.stages["decode"]
    assert (text.settings["runs"], text.settings["texts"], decoder.settings["runs"]) == (1, 2, 1)
    assert text.flops_per_step > 0
    assert decoder.flops_per_step > 0
    # The three networks lie on the devices together, and each program has two of them beside its own.
    kept = {name: one.memory["parameters"] for name, one in {"dit": plan, **plan.stages}.items()}
    for name, one in {"dit": plan, **plan.stages}.items():
        assert one.memory["other networks"] == sum(kept.values()) - kept[name] > 0
    assert json.loads(json.dumps(plan.record()))["stages"]["decode"]["settings"] == decoder.settings
    from rich.console import Console

    Console(width=120).print(table(plan))
    shown = capsys.readouterr().out
    assert all(words in shown for words in ("the denoiser's steps", "text encoder", "decoder"))


def test_a_clip_that_is_too_large_is_planned_by_the_chunk_of_a_tile(monkeypatch):
    monkeypatch.setitem(program.MODELS, "words", tiny_wan.WORDS)
    sample = dataclasses.replace(SAMPLE, size="80x64", context=1, shards=1)
    mesh = make_mesh(mesh_of_work(sample), jax.devices()[:1])
    settings = stages(sample, mesh, 1.0)["decode"].settings
    # 16 x 16 of 32 x 40 latents at a time, overlapping by a quarter.
    expected = {"runs": 27, "tiles": 9, "chunks": 3, "rows": 32, "columns": 32}
    assert settings == {"kind": "decoder", **expected}

    sample = dataclasses.replace(sample, size="32x32")
    whole, little = stages(sample, mesh, math.inf)["decode"], stages(sample, mesh, 1.0)["decode"]
    assert (whole.settings["runs"], little.settings["runs"]) == (1, 3)
    # The first of three latent frames is one frame, and counts as two.
    all_, one = (work_of(stage.useful().jaxpr).flops for stage in (whole, little))
    assert 1 < 3 * one / all_ <= 6 / 5
    # One with no room for the text encoder leaves it on the host.
    assert {*little.beside} == {"dit"} < {*whole.beside} == {"dit", "text"}


def test_what_is_asked_for_wrongly():
    with pytest.raises(ValueError, match="no model 'mine' is known without its weights"):
        make_plan(
            dataclasses.replace(SAMPLE, model="mine", shards=1, context=1), parse_topology("cpu:1"), "x"
        )
    with pytest.raises(ValueError, match="a batch of 6 in 1 parts is 6 at a time and doesn't divide"):
        make_plan(dataclasses.replace(RUN, batch_size=6), EIGHT, "x")
    with pytest.raises(ValueError, match="needs 16 devices and there are 8"):
        make_plan(with_settings(RUN, mesh=MeshConfig(data=1, fsdp=16)), EIGHT, "x")
    with pytest.raises(ValueError, match="has no remat"):
        with_settings(SAMPLE, remat="full")
    with pytest.raises(ValueError, match="leave data and fsdp at 1"):
        with_settings(SAMPLE, mesh=MeshConfig(data=2))


def test_choices_keep_the_batch_and_the_devices():
    found = choices(RUN, EIGHT)
    assert len({(choice.mesh, choice.remat, choice.accumulate) for choice in found}) == len(found) > 20
    for choice in found:
        mesh = choice.mesh
        assert mesh.data * mesh.fsdp * mesh.context * mesh.tensor == 8
        assert RUN.batch_size % (mesh.data * mesh.fsdp * choice.accumulate) == 0
        assert choice.of(RUN).batch_size == RUN.batch_size


def test_every_policy_is_tried_and_guessed():
    """Of 14 billion parameters on one mesh: what is kept takes room, and what isn't time."""
    run = load_work(EXPERIMENTS / "train" / "wan2_1_14b_720p.py")
    found = {
        choice.remat: choice
        for choice in choices(run, parse_topology("v5p:4x4x4"))
        if choice.mesh == run.mesh and choice.accumulate == 1
    }
    assert {*found} == {*NAMES} - {"minimal"}
    room = sorted(found, key=lambda name: found[name].bytes)
    assert {*room[:2]} == {"full", "offload"}
    assert room[2:] == ["attention", "dots", "none"]
    assert found["full"].bytes == found["offload"].bytes
    time = [found[name].seconds for name in ("none", "dots", "attention", "full")]
    assert time == sorted(time)
    assert found["offload"].seconds > found["dots"].seconds


def test_an_autoencoder_s_clips_are_cut_last():
    run = VAERun(model=tiny_wan.WORDS.vae, batch_size=8, crop_size=16, crop_frames=9)
    contexts = [choice.mesh.context for choice in choices(run, EIGHT)]
    assert {*contexts} == {1, 2, 4, 8}
    assert contexts == sorted(contexts)
    few = choices(dataclasses.replace(run, batch_size=4), EIGHT)
    assert {choice.mesh.context for choice in few} == {2, 4, 8}
    assert few[0].of(run).mesh == few[0].mesh


def test_slices_are_crossed_by_the_data_axis_alone():
    run = load_work(EXPERIMENTS / "train" / "wan2_1_14b_720p.py")
    found = choices(run, parse_topology("2xv5p:4x4x4"))
    assert found
    assert all(choice.mesh.data % 2 == 0 for choice in found)


def test_a_large_state_isn_t_held_whole():
    """14 billion parameters with average and moments: what is tried first cuts them over many chips."""
    run = load_work(EXPERIMENTS / "train" / "wan2_1_14b_720p.py")
    best = choices(run, parse_topology("v5p:4x4x4"))[0]
    assert best.mesh.fsdp * best.mesh.context * best.mesh.tensor >= 8
    assert best.bytes < 95 * 2**30


SHIPPED = [
    ("train/wan2_1_1_3b_480p.py", "v6e-16"),
    ("train/wan2_1_14b_720p.py", "v5p:4x4x4"),
    ("train/wan2_1_14b_1080p.py", "v5p-512"),
    ("sample/minute_1080p.py", "v5p-512"),
]


@pytest.mark.parametrize(("path", "topology"), SHIPPED)
def test_shipped_experiments_are_for_their_topologies(path, topology):
    work, topology = load_work(EXPERIMENTS / path), parse_topology(topology)
    mesh = mesh_of_work(work)
    assert mesh.data * mesh.fsdp * mesh.context * mesh.tensor == topology.devices
    if not isinstance(work, Sample):
        assert work.batch_size % (mesh.data * mesh.fsdp * work.accumulate) == 0


needs_libtpu = pytest.mark.skipif(importlib.util.find_spec("libtpu") is None, reason="needs the [tpu] extra")


@needs_libtpu
@pytest.mark.parametrize(("memory", "kernel"), [(math.inf, True), (1.0, False)], ids=["whole", "a chunk"])
def test_a_decoder_on_several_chips_planned_on_one_device(memory, kernel, monkeypatch):
    """As on the chips: only the program that is told of the mesh has attention's kernel, which XLA can't cut."""
    monkeypatch.setitem(program.MODELS, "words", tiny_wan.WORDS)
    monkeypatch.setattr(vae_tiles, "TILE_SIDES", ())
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    sample = dataclasses.replace(SAMPLE, size="64x64", context=4, shards=1)  # 1,024 latents of a frame attend
    mesh = make_mesh(mesh_of_work(sample), devices_of(parse_topology("v5p-8")))
    decoder = stages(sample, mesh, memory)["decode"]
    assert ("tpu_custom_call" in decoder.trace().lower().as_text()) == kernel


@pytest.mark.slow
@needs_libtpu
def test_a_tpu_s_program():
    """With the kernel, as attention is long enough for it; minutes where the machine is busy."""
    dit = dataclasses.replace(tiny_wan.WORDS.dit, width=128, heads=1)
    run = dataclasses.replace(
        RUN,
        model=dataclasses.replace(tiny_wan.WORDS, dit=dit),
        data=ClipsConfig(folder="given", height=64, width=64, frames=5, aspects=()),
        mesh=MeshConfig(data=1, fsdp=4),
    )
    plan = make_plan(run, parse_topology("v5p-8"), "tiny", samples=10)
    assert plan.fits
    assert plan.flops["kernels"] > 0
    assert plan.flops["compiled"] == pytest.approx(plan.flops["executed"], rel=0.3)
    assert 0 < plan.mfu_bound < 1
    assert plan.dollars > 0


@pytest.mark.slow
@needs_libtpu
@pytest.mark.parametrize(("path", "topology"), SHIPPED)
def test_shipped_experiments_fit_and_could_be_fast(path, topology):
    """What docs/planning.md says of them; two to eight minutes of CPU time each."""
    plan = make_plan(load_work(EXPERIMENTS / path), parse_topology(topology), path)
    assert plan.fits, outcome(plan)
    assert plan.mfu_bound is not None
    assert plan.mfu_bound >= 0.55, f"MFU at most {plan.mfu_bound:.3f}, by {plan.limit}"
