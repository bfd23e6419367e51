"""Both sides of every comparison compute the same thing."""

import dataclasses

import jax
import pytest
import tiny_model
import tiny_wan

from sora_jax.evals.bench import peers, sizes
from sora_jax.evals.bench.timing import Effort

pytestmark = pytest.mark.parity

# As the playground's VAE, it keeps the height and width between two levels.
KEEPING = dataclasses.replace(
    tiny_model.CONFIG,
    vae=dataclasses.replace(
        tiny_model.CONFIG.vae,
        multipliers=(1, 2, 2),
        temporal_downsample=(True, True),
        spatial_downsample=(True, False),
    ),
    defaults=dataclasses.replace(tiny_model.CONFIG.defaults, height=16, width=16),
)


@pytest.mark.parametrize("config", [tiny_wan.WORDS, KEEPING], ids=["published", "keeping"])
@pytest.mark.parametrize("what", ["forward", "train", "encode", "decode"])
def test_sides_agree(config, what, monkeypatch):
    monkeypatch.setitem(sizes.SIZES, "tiny", config)
    frames = 1 + 2 * config.vae.temporal_factor
    case = peers.Case(model="tiny", what=what, batch_size=2, height=16, width=16, frames=frames, bar=1.0)
    once = Effort(repeats=1, seconds=0, warmup=0)
    with jax.numpy_dtype_promotion("standard"):  # Optax mixes an int32 count with float32
        ours, theirs = peers.measure((case,), effort=once, peak=None)
    assert (ours.variant, theirs.variant) == ("sora_jax, float32", "diffusers, float32")
    assert ours.figures["error"] < 1e-4
    assert ours.figures["bar"] == 1.0
    assert theirs.figures["times_as_fast"] == 1
    assert ours.flops == theirs.flops > 0


def test_every_case_is_of_a_named_size():
    for case in peers.CASES:
        assert case.what in ("forward", "train", "encode", "decode")
        config = sizes.sized(case.model)
        config.vae.latent_shape(case.frames, case.height, case.width)
