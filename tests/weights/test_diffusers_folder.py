import dataclasses
import errno
import json
import os

import jax
import numpy as np
import pytest
import tiny_wan
from safetensors.numpy import load_file, save_file

from sora_jax.cli.main import main
from sora_jax.models.config import ModelConfig, SamplingDefaults
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.studio.pipeline import Pipeline
from sora_jax.weights import Checkpoint, abstract_params, load, save, save_diffusers
from sora_jax.weights import diffusers_export as exporter
from sora_jax.weights import diffusers_folder as reader

CONFIG = ModelConfig(
    name="wan",
    dit=DiTConfig(
        in_channels=4,
        out_channels=4,
        width=24,
        depth=2,
        heads=2,
        ffn_width=40,
        text_width=16,
        freq_width=12,
        remat="full",
    ),
    vae=VAEConfig(
        base_width=8,
        decoder_width=8,
        latent_channels=4,
        multipliers=(1, 2, 2, 2),
        res_blocks=1,
        temporal_downsample=(False, True, True),
        latent_mean=(0.1, -0.2, 0.3, 0.0),
        latent_std=(1.5, 0.5, 1.0, 2.0),
    ),
    text=TextConfig(vocab=512, width=16, depth=2, heads=2, head_width=6, ffn_width=24),
    flow_shift=3.0,
    mask_text=False,
    defaults=SamplingDefaults(height=480, width=832, frames=81, fps=16.0),
)


@pytest.fixture(scope="module")
def checkpoint():
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), abstract_params(CONFIG)
    )
    words = train_tokenizer(["a red circle moves right", "a blue star spins"], 512)
    return Checkpoint(config=CONFIG, params=params, tokenizer=Tokenizer(words, CONFIG.text.max_length))


@pytest.fixture
def folder(checkpoint, tmp_path):
    return save_diffusers(tmp_path / "wan", checkpoint.config, checkpoint.params, checkpoint.tokenizer)


def same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_there_and_back_keeps_every_bit(checkpoint, folder, tmp_path):
    read = load(folder)
    for part in ("dit", "vae", "text", "flow_shift", "mask_text"):
        assert getattr(read.config, part) == getattr(CONFIG, part)
    same(read.params, checkpoint.params)
    assert read.tokenizer.model == checkpoint.tokenizer.model
    assert main(["convert", str(folder), str(tmp_path / "native")]) == 0
    assert main(["convert", str(tmp_path / "native"), str(tmp_path / "again"), "--format", "diffusers"]) == 0
    for file in sorted(folder.rglob("*.*")):
        assert (tmp_path / "again" / file.relative_to(folder)).read_bytes() == file.read_bytes(), file


@pytest.mark.parametrize("kind", ["two images", "image beside, experts"])
def test_families_of_more_networks_go_there_and_back(tmp_path, kind):
    made = tiny_wan.checkpoint(kind)
    folder = save_diffusers(tmp_path / "wan", made.config, made.params, made.tokenizer)
    read = load(folder)
    for part in ("networks", "boundary_ratio", "known_frames"):
        assert getattr(read.config, part) == getattr(made.config, part)
    same(read.params, made.params)
    assert load(save(tmp_path / "native", made, dtype=None)).config == made.config
    same(load(tmp_path / "native").params, made.params)


@pytest.mark.parametrize("kind", tiny_wan.OURS)
def test_what_is_more_than_diffusers_brings_its_modules(kind, tmp_path):
    made = tiny_wan.random_checkpoint(tiny_wan.OURS[kind])
    folder = save_diffusers(tmp_path / "ours", made.config, made.params, made.tokenizer)
    read = load(folder)
    for part in ("networks", "mask_text", "known_frames", "flow_shift"):
        assert getattr(read.config, part) == getattr(made.config, part)
    same(read.params, made.params)
    assert [path.name for path in sorted(folder.rglob("*.py"))] == tiny_wan.BROUGHT[kind]


def test_the_playground_comes_back_with_its_own_size(tmp_path):
    assert main(["convert", "playground", str(tmp_path / "pg"), "--format", "diffusers"]) == 0
    read, shipped = load(tmp_path / "pg"), load("playground")
    same(read.params, shipped.params)
    assert read.config.name == "playground"
    assert read.config.text == shipped.config.text
    defaults = dataclasses.replace(shipped.config.defaults, sampler="unipc")
    assert read.config.defaults == defaults


def test_it_generates(folder):
    clip = Pipeline(load(folder)).generate("a red circle", size=(16, 32), frames=5, steps=2, progress=False)
    assert clip.frames.shape == (5, 16, 32, 3)
    assert np.isfinite(clip.frames).all()


def shard(folder, places):
    """Cuts the transformer's weights into two files; `places` changes the index before it is written."""
    whole = folder / "transformer" / "diffusion_pytorch_model.safetensors"
    state = load_file(whole)
    whole.unlink()
    names = sorted(state)
    parts = {"part-1.safetensors": names[::2], "part-2.safetensors": names[1::2]}
    for file, held in parts.items():
        save_file({name: state[name] for name in held}, folder / "transformer" / file)
    weight_map = {name: file for file, held in parts.items() for name in held}
    places(weight_map)
    index = folder / "transformer" / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def test_shards_are_one_model(checkpoint, folder):
    shard(folder, lambda weight_map: None)
    same(load(folder).params, checkpoint.params)


@pytest.mark.parametrize(
    ("name", "place", "says"),
    [
        ("proj_out.bias", "../vae/diffusion_pytorch_model.safetensors", "lie outside"),
        ("proj_out.bias", "/etc/passwd", "lie outside"),
        ("proj_out.bias", "part-3.safetensors", "is missing"),
        ("proj_out.bias", "part-2.safetensors", "it doesn't"),
        ("unheard_of", "part-1.safetensors", "says that part-1.safetensors holds unheard_of"),
    ],
)
def test_an_index_that_lies_is_refused(folder, name, place, says):
    where = {}

    def places(weight_map):
        where["other"] = next(f for f in set(weight_map.values()) if f != weight_map["proj_out.bias"])
        weight_map[name] = where["other"] if place == "part-2.safetensors" else place

    shard(folder, places)
    with pytest.raises(ValueError, match=says):
        load(folder)


def test_a_shard_that_leads_out_of_the_folder_is_refused(folder, tmp_path):
    shard(folder, lambda weight_map: None)
    file = folder / "transformer" / "part-1.safetensors"
    os.replace(file, tmp_path / "elsewhere.safetensors")
    file.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ValueError, match="lie outside"):
        load(folder)


def test_weights_that_lead_out_of_the_folder_are_refused(folder, tmp_path):
    file = folder / "vae" / "diffusion_pytorch_model.safetensors"
    os.replace(file, tmp_path / "elsewhere.safetensors")
    file.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(ValueError, match="lie outside"):
        load(folder)


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("file", "changes", "says"),
    [
        ("transformer/config.json", {"num_layers": 3}, "blocks.2"),
        ("transformer/config.json", {"num_layers": None}, "num_layers is missing"),
        ("transformer/config.json", {"image_dim": 1280}, "image tokens of width 1280"),
        ("transformer/config.json", {"patch_size": [2]}, "patch_size"),
        ("vae/config.json", {"dim_mult": "wide"}, "dim_mult"),
        ("vae/config.json", {"z_dim": 6}, "numbers"),
        ("vae/config.json", {"dim_mult": [1] * 2000}, "dim_mult is missing or has no use"),
        (
            "vae/config.json",
            {"z_dim": 10**12, "latents_mean": [], "latents_std": []},
            "z_dim is missing or has no use",
        ),
        ("vae/config.json", {"spatial_downsample": 5}, "spatial_downsample is missing or has no use"),
        ("vae/config.json", {"spatial_downsample": [True]}, "spatial_downsample"),
        ("transformer/config.json", {"prediction": ["noise"]}, "prediction"),
        ("text_encoder/config.json", {"model_type": "clip"}, "clip"),
        ("text_encoder/config.json", {"num_layers": 10**9}, "num_layers is missing or has no use"),
        (
            "model_index.json",
            {"transformer_2": ["diffusers", "WanTransformer3DModel"]},
            "boundary_ratio is missing",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_refused(folder, file, changes, says):
    edit(folder / file, **changes)
    with pytest.raises(ValueError, match=says):
        load(folder)


@pytest.mark.parametrize(
    ("told", "read"), [(30, 30), (10**30, 512), (float("inf"), 512), (-1, 512), ("all", 512)]
)
def test_the_longest_prompt_is_what_the_tokenizer_tells(folder, told, read):
    edit(folder / "tokenizer" / "tokenizer_config.json", model_max_length=told)
    assert load(folder).config.text.max_length == read


def test_a_file_that_is_no_config_is_refused(folder, monkeypatch):
    path = folder / "vae" / "config.json"
    for content, says in (("[" * 100_000, "no JSON"), ("[]", "no JSON object"), ("{", "no JSON")):
        path.write_text(content)
        with pytest.raises(ValueError, match=says):
            load(folder)
    monkeypatch.setattr(reader, "JSON_LIMIT", 1)
    with pytest.raises(ValueError, match="more than any config"):
        load(folder)


def test_pickles_are_not_opened(folder):
    (folder / "vae" / "diffusion_pytorch_model.safetensors").rename(
        folder / "vae" / "diffusion_pytorch_model.bin"
    )
    with pytest.raises(ValueError, match="no safetensors weights"):
        load(folder)


def test_nothing_is_written_over_or_half_written(checkpoint, folder, tmp_path, capsys):
    assert main(["convert", str(folder), str(folder)]) == 2
    assert "holds something already" in capsys.readouterr().err
    flat = dataclasses.replace(CONFIG.vae, spatial_downsample=(True, True, False))
    with pytest.raises(ValueError, match="native format only"):
        save_diffusers(
            tmp_path / "other",
            dataclasses.replace(CONFIG, vae=flat),
            checkpoint.params,
            checkpoint.tokenizer,
        )
    broken = {**checkpoint.params, "text": jax.tree.map(lambda a: a * np.nan, checkpoint.params["text"])}
    with pytest.raises(ValueError, match="diverged"):
        save_diffusers(tmp_path / "nan", CONFIG, broken, checkpoint.tokenizer)
    assert sorted(os.listdir(tmp_path)) == ["wan"]


@pytest.mark.parametrize("call", [1, 3])
@pytest.mark.parametrize(
    ("error", "seen", "says"),
    [
        (
            OSError(errno.ENOSPC, "No space left on device"),
            ValueError,
            "No space left on device; nothing was written",
        ),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
    ],
)
def test_a_full_disk_or_an_interruption_leaves_nothing(
    checkpoint, tmp_path, monkeypatch, call, error, seen, says
):
    calls, real = [], exporter.write_tensors

    def write(path, *args):
        calls.append(path)
        real(path, *args)
        if len(calls) == call:
            raise error

    monkeypatch.setattr(exporter, "write_tensors", write)
    with pytest.raises(seen, match=says):
        save_diffusers(tmp_path / "wan", CONFIG, checkpoint.params, checkpoint.tokenizer)
    assert len(calls) == call
    assert os.listdir(tmp_path) == []


@pytest.mark.parity
def test_diffusers_loads_what_is_written(checkpoint, folder):
    import torch
    from diffusers import WanPipeline

    pipeline = WanPipeline.from_pretrained(folder, torch_dtype=torch.float32)
    ours = Pipeline(checkpoint)
    rng = np.random.default_rng(1)
    latents = rng.standard_normal((1, 4, 2, 4, 6), np.float32)
    text = rng.standard_normal((1, 7, 16), np.float32)
    with torch.no_grad():
        v = pipeline.transformer(torch.tensor(latents), torch.tensor([500.0]), torch.tensor(text))[0]
    got = ours.denoise(latents.transpose(0, 2, 3, 4, 1), np.float32([500.0]), text)
    np.testing.assert_allclose(np.asarray(got).transpose(0, 4, 1, 2, 3), v.numpy(), rtol=1e-4, atol=1e-5)
    ids, mask = checkpoint.tokenizer(["a red circle moves right"])
    theirs = pipeline.tokenizer("a red circle moves right")["input_ids"]
    assert theirs == [int(i) for i in ids[0][mask[0]]]


@pytest.mark.parity
def test_a_folder_that_diffusers_made_generates(checkpoint, folder, tmp_path):
    from diffusers import AutoencoderKLWan, WanTransformer3DModel
    from transformers import UMT5EncoderModel

    made = tmp_path / "made"
    parts = (
        ("transformer", WanTransformer3DModel),
        ("vae", AutoencoderKLWan),
        ("text_encoder", UMT5EncoderModel),
    )
    for part, kind in parts:
        kind.from_pretrained(folder / part).save_pretrained(made / part, max_shard_size="20KB")
    for part in ("tokenizer", "scheduler", "model_index.json"):
        (made / part).symlink_to(folder / part)
    read = load(made)
    same(read.params, checkpoint.params)
    assert (read.config.dit, read.config.vae) == (CONFIG.dit, CONFIG.vae)
