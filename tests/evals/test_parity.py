import dataclasses
import json
import sys

import jax
import numpy as np
import pytest
import tiny_wan

from sora_jax.cli.main import main
from sora_jax.evals import parity
from sora_jax.models.tokenizer import train_tokenizer
from sora_jax.weights import save_diffusers

DENOISER = {"rope_max_seq_len": 64, "text_dim": 8, "freq_dim": 12}
VAE = {"num_res_blocks": 1, "attn_scales": []}
TEXT = {"vocab_size": 512, "d_model": 8, "d_kv": 6, "d_ff": 20, "feed_forward_proj": "gated-gelu"}
FLOW = {"prediction_type": "flow_prediction", "use_flow_sigmas": True}
# Two odd ones of each family: sizes that nothing published has, so that no default fits by chance.
CASES = {
    "t2v, unipc": {
        "dit": {"num_attention_heads": 2, "attention_head_dim": 12, "num_layers": 2, "ffn_dim": 40},
        "vae": {"base_dim": 8, "z_dim": 3, "dim_mult": [1, 2], "temperal_downsample": [True]},
        "text": ("UMT5", {"num_layers": 2, "num_heads": 2}),
        "scheduler": ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 3.0}),
    },
    "t2v, euler": {
        "dit": {"num_attention_heads": 3, "attention_head_dim": 8, "num_layers": 1, "ffn_dim": 17},
        "vae": {"base_dim": 6, "z_dim": 4, "dim_mult": [1, 2, 1], "temperal_downsample": [False, True]},
        "text": ("T5", {"num_layers": 1, "num_heads": 3}),
        "scheduler": ("FlowMatchEulerDiscreteScheduler", {"shift": 5.0}),
    },
    "ti2v, unipc": {
        "dit": {"num_attention_heads": 2, "attention_head_dim": 16, "num_layers": 1, "ffn_dim": 24},
        "vae": {
            "base_dim": 4,
            "decoder_base_dim": 6,
            "z_dim": 5,
            "dim_mult": [1, 2, 2],
            "temperal_downsample": [True, False],
        },
        "text": ("UMT5", {"num_layers": 1, "num_heads": 2}),
        "scheduler": ("UniPCMultistepScheduler", {**FLOW, "flow_shift": 5.0}),
        "expand_timesteps": True,
    },
    "ti2v, dpmpp": {
        "dit": {"num_attention_heads": 1, "attention_head_dim": 10, "num_layers": 3, "ffn_dim": 30},
        "vae": {"base_dim": 4, "z_dim": 2, "dim_mult": [1, 1], "temperal_downsample": [True]},
        "text": ("UMT5", {"num_layers": 2, "num_heads": 1}),
        "scheduler": ("DPMSolverMultistepScheduler", {**FLOW, "flow_shift": 2.0}),
        "expand_timesteps": True,
    },
}


def make(folder, case):
    """A folder that diffusers writes, of random weights."""
    import diffusers
    import torch
    import transformers

    torch.manual_seed(0)
    residual = case.get("expand_timesteps", False)
    spatial = 2 ** (len(case["vae"]["dim_mult"]) - 1) * (2 if residual else 1)
    channels = {"in_channels": 12, "out_channels": 12, "patch_size": 2} if residual else {}
    z = case["vae"]["z_dim"]
    vae = diffusers.AutoencoderKLWan(
        **VAE,
        **case["vae"],
        **channels,
        is_residual=residual,
        latents_mean=[0.1 * i for i in range(z)],
        latents_std=[0.5 + 0.1 * i for i in range(z)],
        scale_factor_spatial=spatial,
        scale_factor_temporal=2,
    )
    dit = diffusers.WanTransformer3DModel(in_channels=z, out_channels=z, **DENOISER, **case["dit"])
    kind, sizes = case["text"]
    text = getattr(transformers, f"{kind}Config")(**TEXT, **sizes)
    text = getattr(transformers, f"{kind}EncoderModel")(text)
    for network in (vae, dit, text):
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.5 if parameter.ndim == 1 else parameter[0].numel() ** -0.5)
    words = folder / "tokenizer"
    words.mkdir(parents=True)
    (words / "spiece.model").write_bytes(
        train_tokenizer(["a red circle moves right", "a blue star spins"], 512)
    )
    (words / "tokenizer_config.json").write_text('{"tokenizer_class": "T5TokenizerFast", "extra_ids": 0}')
    scheduler, options = case["scheduler"]
    diffusers.WanPipeline(
        tokenizer=transformers.T5TokenizerFast.from_pretrained(words),
        text_encoder=text,
        vae=vae,
        transformer=dit,
        scheduler=getattr(diffusers, scheduler)(**options),
        expand_timesteps=residual,
    ).save_pretrained(folder)
    return folder


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_every_stage_keeps_its_bound(name, tmp_path):
    figures = list(parity.compare(make(tmp_path / "model", CASES[name]), negative="a blue star", seed=1))
    assert figures.pop(0) == parity.Figure(stage="tokens", error=0.0, bound=0.0)
    assert [figure.stage for figure in figures] == [
        "text encoder",
        "transformer",
        "VAE encoder",
        "VAE decoder",
        "latents after 10 steps",
        "decoded clip",
    ]
    assert all(0 < figure.error <= figure.bound for figure in figures), figures


def other(config):
    """The same family at another odd size."""
    dit = dataclasses.replace(config.dit, heads=3, depth=1, ffn_width=17)
    if config.image is None:
        return dataclasses.replace(config, dit=dit)
    dit = dataclasses.replace(dit, image_positions=dit.image_positions and 20)
    return dataclasses.replace(config, dit=dit, image=dataclasses.replace(config.image, size=12, depth=3))


@pytest.mark.parity
@pytest.mark.parametrize("change", [None, other])
@pytest.mark.parametrize("kind", ["image tokens", "two images", "experts", "image beside, experts"])
def test_families_of_images_and_experts_keep_their_bounds(kind, change, tmp_path):
    config = tiny_wan.CONFIGS[kind]
    made = tiny_wan.random_checkpoint(change(config) if change else config)
    folder = save_diffusers(tmp_path / "model", made.config, made.params, made.tokenizer)
    figures = list(parity.compare(folder, negative="a blue star", seed=1))
    stages = {figure.stage for figure in figures}
    assert ("image encoder" in stages) == (config.image is not None)
    assert ("transformer_2" in stages) == (config.boundary_ratio is not None)
    assert all(figure.kept for figure in figures), figures
    assert all(figure.error > 0 for figure in figures[1:]), figures


@pytest.mark.parity
@pytest.mark.parametrize("kind", tiny_wan.OURS)
def test_networks_of_our_own_keep_their_bounds(kind, tmp_path, monkeypatch):
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "modules"))
    monkeypatch.setattr(sys, "path", [*sys.path])
    made = tiny_wan.random_checkpoint(tiny_wan.OURS[kind])
    folder = save_diffusers(tmp_path / "model", made.config, made.params, made.tokenizer)
    figures = list(parity.compare(folder, negative="a blue star", seed=1))
    assert len(figures) == 7
    assert all(figure.kept for figure in figures), figures
    assert all(figure.error > 0 for figure in figures[1:]), figures


def changed(folder):
    module = folder / "transformer" / "sora_transformer.py"
    module.write_bytes(module.read_bytes() + b"raise SystemExit('run')\n")


def behind_a_link(folder):
    changed(folder)
    (folder / "transformer").rename(folder.parent / "elsewhere")
    (folder / "transformer").symlink_to(folder.parent / "elsewhere")


def named(library):
    def change(folder):
        index = folder / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | {"vae": [library, "AutoencoderKLWan"]}))
        (folder / "vae" / f"{library}.py").resolve().write_text("raise SystemExit('run')")

    return change


@pytest.mark.parametrize("change", [changed, behind_a_link, named("diffusers"), named("../../evil")])
def test_other_code_beside_the_weights_is_not_run(change, tmp_path, capsys):
    made = tiny_wan.random_checkpoint(tiny_wan.OURS["a denoiser, levels of clips"])
    folder = save_diffusers(tmp_path / "model", made.config, made.params, made.tokenizer)
    change(folder)
    assert main(["parity", str(folder)]) == 2
    assert "isn't run" in capsys.readouterr().err


@pytest.mark.parity
def test_a_denoiser_that_differs_is_found(tmp_path, monkeypatch, capsys):
    folder = make(tmp_path / "model", CASES["t2v, euler"])
    honest = parity.load

    def off(folder):
        checkpoint = honest(folder)
        params = checkpoint.params | {"dit": jax.tree.map(lambda a: a * 1.01, checkpoint.params["dit"])}
        return dataclasses.replace(checkpoint, params=params)

    monkeypatch.setattr(parity, "load", off)
    assert main(["parity", str(folder), "--steps", "2", "--negative", "a star", "--json"]) == 1
    kept = {row["stage"]: row["kept"] for row in json.loads(capsys.readouterr().out)}
    assert kept["text encoder"]
    assert kept["VAE decoder"]
    assert not kept["transformer"]
    assert not kept["decoded clip"]


def test_relative_error():
    assert parity.relative_error([1.0, 2.0], [1.0, 2.5]) == pytest.approx(0.2)
    assert parity.relative_error([1.0], [1.0, 2.0]) == float("inf")
    assert parity.relative_error([np.nan], [1.0]) == float("inf")


def test_what_is_missing_is_named(tmp_path, monkeypatch, capsys):
    assert main(["parity", str(tmp_path)]) == 2
    assert "model_index.json" in capsys.readouterr().err
    index = tmp_path / "model_index.json"
    index.write_text('{"_class_name": "FluxPipeline"}')
    assert main(["parity", str(tmp_path)]) == 2
    assert "FluxPipeline" in capsys.readouterr().err
    index.write_text('{"_class_name": "WanPipeline"}')
    monkeypatch.setitem(sys.modules, "torch", None)
    assert main(["parity", str(tmp_path)]) == 2
    assert "pip install 'sora_jax[parity]'" in capsys.readouterr().err
