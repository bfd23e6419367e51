"""A denoiser's run that was killed and goes on is the run that never stopped, to the bit: with Muon, accumulated
batches, several sizes, captions left out at random, and noise."""

import dataclasses
import json
import shutil

import chex
import jax
import pytest
import tiny_model

from sora_jax.data.sources import DataConfig
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train.dit import DiTRun, Size, run_dit
from sora_jax.train.optimizer import OptimizerConfig

RUN = DiTRun(
    model=tiny_model.CONFIG,
    vae="given",
    data=DataConfig(count=24, height=16, width=16, frames=5),
    sizes=(Size(frames=1, share=0.5, batch_size=8, count=24),),
    optimizer=OptimizerConfig(name="muon", learning_rate=1e-2, warmup_steps=0),
    mesh=MeshConfig(data=1, fsdp=2),
    steps=6,
    batch_size=8,
    accumulate=2,
    checkpoint_every=3,
    log_every=1,
    sample_every=0,
)


@pytest.mark.slow
def test_a_denoiser_s_run_goes_on_to_the_bit(tmp_path, monkeypatch):
    monkeypatch.setattr("sora_jax.train.dit.make_mesh", lambda config: make_mesh(config, jax.devices()[:2]))
    made = tiny_model.checkpoint()

    def train(name):
        run = dataclasses.replace(RUN, latents=str(tmp_path / "latents"))
        given = {"vae_params": made.params["vae"], "vae_fingerprint": "v", "tokenize": made.tokenizer}
        return run_dit(run, tmp_path / name, **given)

    def losses(name):
        return [
            json.loads(line)["loss"] for line in (tmp_path / name / "metrics.jsonl").read_text().splitlines()
        ]

    whole = train("whole")
    shutil.copytree(tmp_path / "whole", tmp_path / "killed")
    shutil.rmtree(tmp_path / "killed" / "checkpoints" / "6")
    chex.assert_trees_all_equal(train("killed"), whole)
    assert losses("killed") == losses("whole")
    assert len(set(losses("whole"))) == 6
