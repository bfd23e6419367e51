"""The VAE, stage by stage, beside diffusers' AutoencoderKLWan with random weights, in float32.

The reference codes a clip in chunks with a cache, ours whole. Stored outputs need no Torch (reference/make_vae.py
wrote them); the tests marked `parity` run Torch itself.
"""

import importlib
from functools import cache, reduce
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from reference.vae_cases import CLIPS, CONFIGS, STAGES, clip, latents, state

from sora_jax.models.vae import VAE, VAE_WAN2_1, VAE_WAN2_2
from sora_jax.ops.pixel_shuffle import average_down, duplicate_up
from sora_jax.weights.diffusers_vae import from_diffusers_vae, to_diffusers_vae, vae_leaves
from sora_jax.weights.layout import published_shapes
from sora_jax.weights.shapes import parameter_shapes

OUTPUTS = Path(__file__).parent / "reference" / "vae_outputs.npz"
TOLERANCE = 1e-5


def relative_error(ours, theirs) -> float:
    ours, theirs = np.float64(ours), np.float64(theirs)
    assert ours.shape == theirs.shape
    return float(np.abs(ours - theirs).max() / np.abs(theirs).max())


@cache
def program(name):
    def run(params, x, z):
        model = VAE(CONFIGS[name])
        variables = {"params": params}
        keep = {"capture_intermediates": True, "mutable": "intermediates"}
        moments, encoded = model.apply(variables, x, method="encode", **keep)
        pixels, decoded = model.apply(variables, z, method="decode", **keep)
        kept = encoded["intermediates"] | decoded["intermediates"]
        found = dict(zip(("mean", "logvar"), moments, strict=True)) | {"pixels": pixels}
        for stage in STAGES[name]:
            found[stage] = reduce(dict.__getitem__, stage.split("/"), kept)["__call__"][0]
        return found

    # Compiling takes longer than running here.
    return jax.jit(run, compiler_options={"xla_backend_optimization_level": 0})


def check(name, size, theirs):
    params = from_diffusers_vae(state(name), CONFIGS[name])
    ours = program(name)(params, clip(name, size), latents(name, size))
    assert set(ours) == set(theirs)
    errors = {label: relative_error(ours[label], theirs[label]) for label in theirs}
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", CONFIGS)
def test_stored_outputs(name):
    with np.load(OUTPUTS) as stored:
        prefix = f"{name}:"
        check(name, "clip", {k.removeprefix(prefix): stored[k] for k in stored if k.startswith(prefix)})


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_there_and_back(name):
    published = state(name)
    back = to_diffusers_vae(from_diffusers_vae(published, CONFIGS[name]), CONFIGS[name])
    assert set(back) == set(published)
    for key, value in published.items():
        np.testing.assert_array_equal(back[key], value)


def test_weights_of_another_architecture_are_refused():
    config, published = CONFIGS["wan2_1"], state("wan2_1")
    with pytest.raises(ValueError, match=r"lacks encoder\.conv_in\.weight"):
        from_diffusers_vae({k: v for k, v in published.items() if k != "encoder.conv_in.weight"}, config)
    with pytest.raises(ValueError, match="has unknown extra"):
        from_diffusers_vae({**published, "extra": np.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"quant_conv\.bias \[1\] for"):
        from_diffusers_vae({**published, "quant_conv.bias": np.zeros(1)}, config)


# 126.9 M and 704.7 M, as published.
@pytest.mark.parametrize(("config", "count"), [(VAE_WAN2_1, 126_892_531), (VAE_WAN2_2, 704_688_668)])
def test_published_sizes(config, count):
    assert sum(int(np.prod(shape)) for shape in parameter_shapes(config).values()) == count


@pytest.mark.parity
@pytest.mark.parametrize("size", CLIPS)
@pytest.mark.parametrize("name", CONFIGS)
def test_beside_the_reference(name, size):
    check(name, size, importlib.import_module("reference.make_vae").reference_outputs(name, size))


@pytest.mark.parity
@pytest.mark.parametrize("config", [VAE_WAN2_1, VAE_WAN2_2])
def test_every_published_tensor_has_its_place(config):
    torch = importlib.import_module("torch")
    with torch.device("meta"):
        model = importlib.import_module("reference.make_vae").torch_model(config)
    theirs = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    ours = published_shapes(vae_leaves(config))
    assert ours == theirs


@pytest.mark.parity
@pytest.mark.parametrize(
    ("frames", "factors", "wide"), [(1, (2, 2), 6), (5, (2, 2), 6), (4, (1, 2), 12), (3, (1, 1), 3)]
)
def test_shortcuts_beside_the_reference(frames, factors, wide):
    torch = importlib.import_module("torch")
    wan = importlib.import_module("diffusers.models.autoencoders.autoencoder_kl_wan")
    x = np.random.RandomState(0).standard_normal((2, frames, 4, 6, 3)).astype(np.float32)
    down = wan.AvgDown3D(3, wide, *factors)(torch.tensor(x).permute(0, 4, 1, 2, 3)).permute(0, 2, 3, 4, 1)
    assert relative_error(average_down(jnp.asarray(x), wide, *factors), down) <= TOLERANCE
    for first in (True, False):
        up = wan.DupUp3D(3, wide, *factors)(torch.tensor(x).permute(0, 4, 1, 2, 3), first).permute(
            0, 2, 3, 4, 1
        )
        assert relative_error(duplicate_up(jnp.asarray(x), wide, *factors, first), up) <= TOLERANCE
