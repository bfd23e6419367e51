"""Experiment files run from the command line: a VAE, then a denoiser on its latents, then a clip from its weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import sora_jax as sora
from sora_jax.cli.main import main
from sora_jax.evals.runs import load_experiment
from sora_jax.models.dit import DiT
from sora_jax.models.vae import VAE
from sora_jax.train.dit import DiTRun
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.vae import VAERun

EXPERIMENTS = sorted((Path(__file__).parents[2] / "experiments" / "train").glob("*.py"))

TINY_VAE = """
from sora_jax.data.sources import DataConfig
from sora_jax.models.vae import VAEConfig
from sora_jax.train.vae import VAERun

MODEL = VAEConfig(
    base_width=8, decoder_width=8, latent_channels=4, multipliers=(1, 1), res_blocks=1,
    temporal_downsample=(True,), residual_shortcuts=True, patch_size=4,
)
EXPERIMENT = VAERun(
    model=MODEL, data=DataConfig(count=8, height=16, width=16, frames=3), crop_size=16, crop_frames=None,
    steps=2, batch_size=8, sample_every=0,
)
"""

TINY_DIT = """
import dataclasses
from sora_jax.data.sources import DataConfig
from sora_jax.models.config import MODELS, SamplingDefaults
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.vae import VAEConfig
from sora_jax.train.dit import DiTRun, Size
from sora_jax.train.finetune import FineTuneRun

VAE = VAEConfig(
    base_width=8, decoder_width=8, latent_channels=4, multipliers=(1, 1), res_blocks=1,
    temporal_downsample=(True,), residual_shortcuts=True, patch_size=4,
)
EXPERIMENT = DiTRun(
    model=dataclasses.replace(
        MODELS["playground"],
        name="tiny",
        vae=VAE,
        dit=DiTConfig(
            in_channels=4, out_channels=4, patch=(1, 1, 1), width=16, depth=1, heads=2, ffn_width=16, text_width=8
        ),
        text=TextConfig(
            vocab=512, width=8, depth=1, heads=1, head_width=8, ffn_width=8, max_length=56
        ),
        defaults=SamplingDefaults(steps=2, guidance=2.0, height=16, width=16, frames=3, fps=8.0),
    ),
    vae="replaced on the command line",
    data=DataConfig(count=8, height=16, width=16, frames=3),
    sizes=(Size(frames=1, share=0.5, batch_size=16, count=24),),
    steps=2, batch_size=8, sample_every=2,
)
"""


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_fits_at_full_size(path):
    experiment = load_experiment(path)
    key, data = jax.random.key(0), experiment.data
    if isinstance(experiment, VAERun):
        config = experiment.model
        clip = jax.ShapeDtypeStruct((1, data.frames, data.height, data.width, 3), jnp.float32)
        out = jax.eval_shape(VAE(config).init_with_output, key, clip)[0][0]
        assert out.shape == clip.shape
    else:
        assert isinstance(experiment, DiTRun | FineTuneRun)
        config = experiment.model.dit
        shape = (1, *experiment.model.vae.latent_shape(data.frames, data.height, data.width))
        x = jax.ShapeDtypeStruct(shape, jnp.float32)
        text = jax.ShapeDtypeStruct((1, 4, config.text_width), jnp.float32)
        level = jax.ShapeDtypeStruct((1,), jnp.float32)
        assert jax.eval_shape(DiT(config).init_with_output, key, x, level, text)[0].shape == shape


def train(*words):
    """The command in a process of its own, on one device: eight compile and save for several times as long."""
    command = [sys.executable, "-m", "sora_jax.cli.main", "train", *map(str, words)]
    environment = {**os.environ, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr


def test_a_vae_then_a_denoiser_then_a_clip(tmp_path, monkeypatch):
    monkeypatch.setenv("SORA_JAX_CACHE", str(tmp_path / "cache"))
    (tmp_path / "vae.py").write_text(TINY_VAE)
    (tmp_path / "dit.py").write_text(TINY_DIT)
    train(tmp_path / "vae.py", "--workdir", tmp_path / "vae", "--sample-every", 2)
    figures = [json.loads(line) for line in (tmp_path / "vae" / "metrics.jsonl").read_text().splitlines()]
    assert figures[-1]["unseen_psnr"] > 0
    assert (tmp_path / "vae" / "sheets" / "step-000002.png").exists()

    train(tmp_path / "dit.py", "--workdir", tmp_path / "dit", "--vae", tmp_path / "vae" / "weights")
    assert (tmp_path / "dit" / "sheets" / "step-000002.png").exists()
    assert np.load(tmp_path / "dit" / "latents" / "1x16x16" / "latents-00000.npy").shape == (24, 1, 2, 2, 4)
    assert main(["convert", str(tmp_path / "dit"), str(tmp_path / "again")]) == 0
    for path in (tmp_path / "dit" / "weights").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        clip = sora.load(tmp_path / "dit" / "weights").generate("a red circle moves right", progress=False)
    assert clip.frames.shape == (3, 16, 16, 3)


def test_a_folder_without_a_denoisers_checkpoint_is_no_run(tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "weights")]) == 2
    assert "no denoiser's run" in capsys.readouterr().err
    (tmp_path / "run" / "config.json").write_text('{"model": {}, "sigma": {}}')
    assert main(["convert", str(tmp_path / "run"), str(tmp_path / "weights")]) == 2
    assert "no checkpoint yet" in capsys.readouterr().err
    assert not (tmp_path / "weights").exists()


def test_what_is_no_experiment_is_refused(tmp_path, capsys):
    assert main(["train", str(tmp_path / "absent.py"), "--workdir", str(tmp_path / "run")]) == 2
    assert "no experiment file" in capsys.readouterr().err
    (tmp_path / "empty.py").write_text("")
    assert main(["train", str(tmp_path / "empty.py"), "--workdir", str(tmp_path / "run")]) == 2
    assert "EXPERIMENT" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_run_needs_a_folder_and_a_vae(tmp_path, capsys):
    (tmp_path / "dit.py").write_text(TINY_DIT)
    assert main(["train", str(tmp_path / "dit.py")]) == 2
    assert "--workdir" in capsys.readouterr().err
    assert (
        main(["train", str(tmp_path / "dit.py"), "--workdir", str(tmp_path / "run"), "--vae", "absent"]) == 2
    )
    assert "absent" in capsys.readouterr().err
