"""Fine-tuning starts from what it is given, changes only what it should, and goes on where it stopped."""

import dataclasses
import importlib.util
from pathlib import Path

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model
from flax import linen as nn

from sora_jax.data.clips import ClipsConfig
from sora_jax.media import Clip
from sora_jax.models.lora import LoRAConfig, apply_lora
from sora_jax.models.text import TextEncoder
from sora_jax.models.vae import VAE
from sora_jax.models.vae_tiles import Tiles
from sora_jax.parallel import MeshConfig, make_mesh, own_mesh, shardings
from sora_jax.train import dit, finetune
from sora_jax.train.abstract import abstract_step
from sora_jax.train.dit import latent_encoder
from sora_jax.train.finetune import FineTuneRun, finetune_loss, prepare_clips, run_finetune
from sora_jax.train.optimizer import OptimizerConfig

PARAMETERS = {"wan2_1_t2v_1_3b": 1_418_996_800, "wan2_1_t2v_14b": 14_288_491_584}
EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments" / "train").glob("wan*.py"))
RUN = FineTuneRun(
    model=tiny_model.CONFIG,
    start_from="given",
    data=ClipsConfig(folder="given", height=16, width=16, frames=5, fps=8.0, aspects=("4:1",)),
    lora=LoRAConfig(rank=2, alpha=2.0),
    optimizer=OptimizerConfig(learning_rate=1e-2, warmup_steps=0),
    mesh=MeshConfig(data=2, fsdp=4),
    steps=3,
    batch_size=8,
    log_every=1,
    sample_every=0,
)
PRINTS = {"vae": "v", "text": "t"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    for i in range(3):
        size = (5, 16, 64, 3) if i == 2 else (5, 16, 16, 3)
        Clip(np.full(size, i / 4, np.float32), 8.0).save(folder / f"{i}.mp4")
        (folder / f"{i}.txt").write_text("a red circle moves right\na blue star spins")
    return folder


@pytest.fixture(scope="module")
def prepared(folder, tmp_path_factory):
    """The clips, encoded by the networks themselves, once."""
    run = dataclasses.replace(RUN, data=dataclasses.replace(RUN.data, folder=str(folder)))
    made = tiny_model.checkpoint()
    workdir = tmp_path_factory.mktemp("run")
    with jax.numpy_dtype_promotion("standard"):
        return prepare_clips(run, workdir, made.params, made.tokenizer, PRINTS)


def test_the_text_encoder_is_cut_over_the_mesh_and_encodes_as_the_whole(monkeypatch):
    made, mesh, put, placed = tiny_model.checkpoint(), own_mesh(), jax.device_put, []
    monkeypatch.setattr(jax, "device_put", lambda tree, place: placed.append(put(tree, place)) or placed[-1])
    found = finetune.text_encoder(RUN, made.params["text"], made.tokenizer, mesh)(tiny_model.CAPTIONS)
    assert placed[0]["embedding"].addressable_shards[0].data.shape == (512, 1)
    kernel = placed[0]["blocks"]["ffn"]["gate"]["kernel"]
    assert kernel.addressable_shards[0].data.size == kernel.size / 8
    ids, mask = made.tokenizer(tiny_model.CAPTIONS)
    want = TextEncoder(RUN.model.text).apply({"params": made.params["text"]}, ids, mask)
    assert len(found) == len(want)
    for text, whole, own in zip(found, want, mask, strict=True):
        np.testing.assert_allclose(text, whole[own], atol=1e-5)


@pytest.mark.parametrize("cut", [False, True], ids=["one device", "a mesh"])
def test_long_clips_are_encoded_in_chunks_with_the_latents_of_the_whole(cut, monkeypatch):
    vae, params, mesh = VAE(RUN.model.vae), tiny_model.checkpoint().params["vae"], own_mesh() if cut else None
    if mesh:
        boxed = jax.eval_shape(vae.init, jax.random.key(0), jnp.zeros((1, 3, 8, 8, 3)))["params"]
        params = jax.device_put(params, shardings(boxed, mesh))
        assert params["encoder"]["conv_in"]["kernel"].addressable_shards[0].data.shape[-1] == 1
    tiled, encode_tiled = [], dit.encode_tiled
    monkeypatch.setattr(dit, "encode_tiled", lambda *args: tiled.append(args[3]) or encode_tiled(*args))
    video = np.random.default_rng(0).integers(0, 256, (3, 9, 16, 16, 3), np.uint8)
    whole = latent_encoder(vae, params, mesh)(video)
    assert not tiled
    chunked = latent_encoder(vae, params, mesh, budget=0)(video)
    assert tiled == [Tiles(height=2, width=2)] * (1 if cut else 3)
    assert np.abs(chunked - whole).max() < 1e-5 * np.abs(whole).max()
    assert whole.shape == (3, 5, 2, 2, 6)


def start(prepared, workdir, fingerprint="f", **fields):
    params = tiny_model.checkpoint().params
    run = dataclasses.replace(RUN, **fields)
    return run_finetune(run, workdir, denoiser=lambda mesh: (params["dit"], fingerprint), prepared=prepared)


def test_the_networks_encode_the_clips(prepared):
    assert [source.bucket[1:] for source in prepared.sources] == [(16, 16), (8, 32)]
    made = tiny_model.checkpoint()
    example = finetune.to_example(prepared, 16)(prepared.sources[0][0], np.random.default_rng(0))
    assert example["latents"].shape == (3, 2, 2, 6)
    _, mask = made.tokenizer(["a red circle moves right", "a blue star spins"])
    assert int(example["mask"].sum()) in (int(mask[0].sum()), int(mask[1].sum()))
    assert example["text"].shape == (16, 8)
    assert not np.any(example["text"][~example["mask"]])
    assert np.any(prepared.features(""))


@pytest.mark.slow
def test_only_the_factors_are_trained_and_a_resumed_run_is_the_whole_one(prepared, tmp_path):
    whole = start(prepared, tmp_path / "whole")
    assert all(set(factors) == {"a", "b"} for factors in whole.params.values())
    before = tiny_model.checkpoint().params["dit"]
    after = apply_lora(before, jax.device_get(whole.ema), RUN.lora.scale)
    changed = jax.tree.map(lambda a, b: bool(np.any(np.asarray(a) != b)), after, before)
    assert sum(jax.tree.leaves(changed)) == 8
    start(prepared, tmp_path / "parts", steps=2)
    chex.assert_trees_all_equal(start(prepared, tmp_path / "parts"), whole)
    query = whole.params["blocks/self_attention/query/kernel"]
    assert query["a"].sharding.spec == jax.sharding.PartitionSpec(None, ("fsdp", "context"), None)
    with pytest.raises(ValueError, match=r"another config .*base"):
        start(prepared, tmp_path / "parts", "other weights")


@pytest.mark.slow
def test_a_whole_denoiser_starts_from_its_weights(prepared, tmp_path):
    before = tiny_model.checkpoint().params["dit"]
    after = start(prepared, tmp_path, lora=None, steps=1)
    kernel = after.params["blocks"]["self_attention"]["query"]["kernel"]
    assert kernel.sharding.spec == jax.sharding.PartitionSpec(None, ("fsdp", "context"), "tensor")
    # AdamW's first step changes every number by the learning rate.
    chex.assert_trees_all_close(after.params, before, atol=1.1e-2, rtol=0)
    assert float(jnp.abs(kernel - before["blocks"]["self_attention"]["query"]["kernel"]).max()) > 9e-3


def example_batch(prepared, count=4):
    rng, draw = np.random.default_rng(0), finetune.to_example(prepared, 16)
    rows = [draw(prepared.sources[0][i % 2], rng) for i in range(count)]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def test_a_fresh_lora_s_loss_is_the_denoiser_s_and_bfloat16_is_near(prepared):
    batch, key = example_batch(prepared), jax.random.key(0)
    dit = tiny_model.checkpoint().params["dit"]
    empty = finetune.padded(prepared.features(""), 16)
    lora = jax.tree.map(jnp.asarray, dict(nn.unbox(finetune.lora_init(RUN)())))

    def loss(params, frozen, run):
        return float(jax.jit(lambda p, b, f: finetune_loss(p, b, key, f, run=run)[0])(params, batch, frozen))

    whole = loss(dit, {"empty": empty}, dataclasses.replace(RUN, lora=None))
    assert loss(lora, {"empty": empty, "dit": dit}, RUN) == pytest.approx(whole, rel=1e-6)
    half = dataclasses.replace(RUN, dtype="bfloat16")
    frozen = finetune.frozen_dtype(dit, jnp.bfloat16)
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(frozen)}
    assert kinds == {"bfloat16", "float32"}
    assert frozen["time"]["inner"]["kernel"].dtype == np.float32
    assert loss(lora, {"empty": empty, "dit": frozen}, half) == pytest.approx(whole, rel=0.03)
    dropped = dataclasses.replace(RUN, lora=None, caption_dropout=0.999)
    other = {"empty": (empty[0] + 1, empty[1])}
    assert loss(dit, {"empty": empty}, dropped) != loss(dit, other, dropped)


def load_experiment(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.EXPERIMENT


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_a_step_at_full_size_and_where_it_lies(path):
    """Shapes alone: the whole train step in the first and the last bucket, and that each device holds its part."""
    run = load_experiment(path)
    run = dataclasses.replace(run, batch_size=8 * run.accumulate)
    buckets = run.data.buckets(run.model.vae.temporal_factor, run.grid)
    for frames, height, width in {buckets[0], buckets[-1]}:
        data = dataclasses.replace(
            run.data, frames=frames, height=height, width=width, aspects=(), lengths=()
        )
        run = dataclasses.replace(run, data=data)
        step = abstract_step(run, make_mesh(MeshConfig(data=1, fsdp=8)))
        state, _, batch, _, _ = step.arguments
        own = sum(np.prod(leaf.sharding.shard_shape(leaf.shape)) for leaf in jax.tree.leaves(state.params))
        total = sum(leaf.size for leaf in jax.tree.leaves(state.params))
        assert own < (0.6 if run.lora else 0.14) * total
        assert total == (23_592_960 if run.lora else PARAMETERS[run.model.name])
        assert batch["latents"].sharding.shard_shape(batch["latents"].shape)[0] == run.accumulate
        after, _, metrics = jax.eval_shape(step.function, *step.arguments)
        chex.assert_trees_all_equal_shapes_and_dtypes(after, state)
        assert metrics["loss"].shape == ()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"caption_dropout": 1.0}, "caption_dropout is 1.0"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"data": dataclasses.replace(RUN.data, frames=4)}, "4 frames"),
        ({"data": dataclasses.replace(RUN.data, height=12)}, "height is 12"),
    ],
)
def test_a_run_that_can_t_be_is_refused(wrong, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(RUN, **wrong)


def test_networks_that_one_run_cannot_train_are_refused():
    beside = dataclasses.replace(RUN.model.dit, in_channels=14)
    for model, says in (
        (dataclasses.replace(RUN.model, dit=beside), "image beside"),
        (dataclasses.replace(RUN.model, boundary_ratio=0.9), "two denoisers"),
    ):
        with pytest.raises(ValueError, match=says):
            dataclasses.replace(RUN, model=model)
