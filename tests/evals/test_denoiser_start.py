"""A denoiser's run that starts from a model: its weights and tokenizer, for the latents of the VAE that it is given."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_model

from sora_jax.data.sources import DataConfig
from sora_jax.evals.runs import make_tokenizer, started_denoiser
from sora_jax.models.vae_axes import reduce_latents
from sora_jax.train.dit import DiTRun
from sora_jax.weights import load


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    return tiny_model.write(tmp_path_factory.mktemp("start") / "model")


@pytest.fixture(scope="module")
def run(start):
    return DiTRun(
        model=load(start).config,
        vae=str(start),
        start=str(start),
        data=DataConfig(count=4, height=16, width=16, frames=5),
    )


def test_it_has_the_weights_and_the_words_of_its_start(run, start, tmp_path):
    first = load(start)
    params = started_denoiser(run, first.params["vae"], first)
    assert sorted(params) == ["dit", "text"]
    jax.tree.map(np.testing.assert_array_equal, params["dit"], first.params["dit"])
    make_tokenizer(run, tmp_path, first)
    assert (tmp_path / "tokenizer.model").read_bytes() == (start / "tokenizer.model").read_bytes()


def test_it_is_turned_to_the_latents_of_another_vae(run, start):
    first = load(start)
    clips = np.random.default_rng(0).uniform(-1, 1, (2, 5, 16, 16, 3)).astype(np.float32)
    vae, config = reduce_latents(first.params["vae"], first.config.vae, clips, 2)
    dit = dataclasses.replace(run.model.dit, in_channels=2, out_channels=2)
    smaller = dataclasses.replace(run, model=dataclasses.replace(run.model, vae=config, dit=dit))
    params = started_denoiser(smaller, vae, first)
    assert params["dit"]["head"]["kernel"].shape == (dit.width, 2)
    jax.tree.map(np.testing.assert_array_equal, params["dit"]["blocks"], first.params["dit"]["blocks"])


def test_other_networks_are_refused(run, start):
    first = load(start)
    wider = dataclasses.replace(run.model, dit=dataclasses.replace(run.model.dit, ffn_width=32))
    with pytest.raises(ValueError, match="other networks"):
        started_denoiser(dataclasses.replace(run, model=wider), first.params["vae"], first)


def test_captions_are_cut_to_no_more_than_the_encoder_takes(run, tmp_path):
    cut = make_tokenizer(dataclasses.replace(run, caption_tokens=4), tmp_path)
    assert cut(["a red circle moves right and spins"])[0].shape == (1, 4)
    with pytest.raises(ValueError, match="caption_tokens"):
        dataclasses.replace(run, caption_tokens=run.model.text.max_length + 1)
