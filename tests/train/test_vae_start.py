"""A VAE's run that starts from another VAE: fewer channels, the encoder kept, and the same start after a stop."""

import dataclasses
import functools

import jax
import numpy as np
import pytest
import tiny_model

from sora_jax.data.sources import DataConfig
from sora_jax.evals.runs import load_vae, run
from sora_jax.train.optimizer import OptimizerConfig
from sora_jax.train.vae import VAERun

FIRST = VAERun(
    model=tiny_model.CONFIG.vae,
    data=DataConfig(count=8, height=16, width=16, frames=3),
    crop_size=16,
    crop_frames=None,
    optimizer=OptimizerConfig(name="muon", weight_decay=0.0),
    steps=1,
    batch_size=8,
    sample_every=1,
)


@pytest.mark.slow
def test_a_smaller_vae_goes_on_from_a_larger_and_keeps_its_encoder(tmp_path):
    run(FIRST, tmp_path / "first")
    second = dataclasses.replace(
        FIRST,
        model=dataclasses.replace(FIRST.model, latent_channels=2, latent_mean=(), latent_std=()),
        start=str(tmp_path / "first" / "weights"),
        train_encoder=False,
    )
    run(second, tmp_path / "second")
    config, before, _ = load_vae(str(tmp_path / "second" / "start"))
    assert config.latent_channels == 2
    run(dataclasses.replace(second, steps=2), tmp_path / "second")
    after_config, after, _ = load_vae(str(tmp_path / "second" / "weights"))
    assert after_config == config  # the scale of the latents too: a denoiser was trained on it
    for part in ("encoder", "moments"):
        # The moving average of what stays rounds its last bit.
        jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-6), after[part], before[part])
    assert np.any(after["decoder"]["conv_in"]["kernel"] != before["decoder"]["conv_in"]["kernel"])

    wider = dataclasses.replace(second, model=dataclasses.replace(second.model, base_width=16))
    with pytest.raises(ValueError, match="other sizes"):
        run(wider, tmp_path / "third")
    assert not (tmp_path / "third" / "start").exists()


@pytest.mark.parametrize("change", [{"start": None}, {"optimizer": OptimizerConfig(weight_decay=0.01)}])
def test_an_encoder_is_not_kept_without_a_start_or_with_decay(change):
    with pytest.raises(ValueError, match="train_encoder"):
        dataclasses.replace(FIRST, **{"start": "weights", "train_encoder": False, **change})
