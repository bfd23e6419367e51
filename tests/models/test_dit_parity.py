"""The DiT, stage by stage, beside diffusers' WanTransformer3DModel with random weights, in float32.

Stored outputs need no Torch (reference/make_dit.py wrote them); the tests marked `parity` run Torch itself.
"""

import importlib
from functools import partial
from pathlib import Path

import jax
import numpy as np
import pytest
from reference.dit_cases import CASES, case

from sora_jax.models.config import MODELS
from sora_jax.models.dit import Block, DiT
from sora_jax.nn.norm import LayerNorm
from sora_jax.ops.rope import rope_3d
from sora_jax.weights.diffusers_dit import dit_leaves, from_diffusers_dit, to_diffusers_dit
from sora_jax.weights.layout import published_shapes

OUTPUTS = Path(__file__).parent / "reference" / "dit_outputs.npz"
TOLERANCE = 1e-5
# These networks compile for longer than they run.
compiled = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


def relative_error(ours, theirs) -> float:
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64).reshape(ours.shape)
    return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))


def our_stages(name):
    """The network's velocity and the stages on the way to it; the blocks one by one, without the scan."""
    config, state, (x, t, text, *image) = case(name)
    params = from_diffusers_dit(state, config)
    velocity, kept = compiled(
        lambda p, *a: DiT(config).apply(
            {"params": p}, *a, capture_intermediates=True, mutable="intermediates"
        )
    )(params, x, t, text, None, None, *image)
    kept = kept["intermediates"]
    found = {label: kept[label]["__call__"][0] for label in ("time", "time_modulation", "text")}
    image = kept["image"]["__call__"][0] if image else None
    found |= {} if image is None else {"image": image}
    found["tokens"] = kept["patch_embedding"]["__call__"][0]
    grid = tuple(n // p for n, p in zip(x.shape[1:4], config.patch, strict=True))
    rotation = rope_3d(grid, config.head_width)
    found["cos"], found["sin"] = rotation

    level = found["time_modulation"].reshape(x.shape[0], -1, 6, config.width)
    block = compiled(
        lambda p, *a: Block(config, grid).apply(
            {"params": p}, *a, capture_intermediates=True, mutable="intermediates"
        )
    )
    y = found["tokens"]
    for i in range(config.depth):
        at_i = jax.tree.map(lambda a, i=i: a[i], params["blocks"])
        (y, _), kept = block(at_i, y, level, found["text"], rotation, None, image)
        if i == 0:
            found["block"] = y
            for ours, theirs in (("self_attention", "attention"), ("cross_attention", "cross_attention")):
                found[theirs] = kept["intermediates"][ours]["__call__"][0]
    found["blocks"] = y
    return {**found, "velocity": velocity}


def check(name, theirs):
    ours = our_stages(name)
    assert set(theirs) <= set(ours)
    errors = {label: relative_error(ours[label], theirs[label]) for label in theirs}
    assert max(errors.values()) <= TOLERANCE, errors


@pytest.mark.parametrize("name", CASES)
def test_every_stage_is_the_stored_reference(name):
    with np.load(OUTPUTS) as stored:
        check(name, {k.split("/", 1)[1]: stored[k] for k in stored.files if k.startswith(f"{name}/")})


def test_weights_come_back_as_they_went():
    config, state, _ = case("pixels")
    back = to_diffusers_dit(from_diffusers_dit(state, config), config)
    assert set(back) == set(state)
    for key, value in state.items():
        np.testing.assert_array_equal(back[key], value)


def test_foreign_weights_are_refused():
    config, state, _ = case("pixels")
    with pytest.raises(ValueError, match=r"lacks proj_out\.bias"):
        from_diffusers_dit({k: v for k, v in state.items() if k != "proj_out.bias"}, config)
    with pytest.raises(ValueError, match="has unknown extra"):
        from_diffusers_dit({**state, "extra": np.zeros(1)}, config)
    with pytest.raises(ValueError, match=r"proj_out\.bias \[3\] for \[7\]"):
        from_diffusers_dit({**state, "proj_out.bias": np.zeros(3, np.float32)}, config)


@pytest.fixture
def reference():
    pytest.importorskip("diffusers")
    return importlib.import_module("reference.make_dit")


@pytest.mark.parity
@pytest.mark.parametrize("name", CASES)
def test_every_stage_is_the_live_reference(reference, name):
    check(name, reference.stages(name))


@pytest.mark.parity
def test_norms_are_the_live_reference(reference):
    torch = pytest.importorskip("torch")
    from diffusers.models.normalization import FP32LayerNorm

    from sora_jax.nn.norm import RMSNorm

    x = jax.random.normal(jax.random.key(0), (3, 5, 24)) * 3.0 + 1.0
    scale, bias = jax.random.normal(jax.random.key(1), (2, 24))
    weights = {"weight": torch.tensor(np.asarray(scale)), "bias": torch.tensor(np.asarray(bias))}
    theirs = {False: FP32LayerNorm(24, 1e-6, elementwise_affine=False), True: FP32LayerNorm(24, 1e-6)}
    theirs[True].load_state_dict(weights)
    rms = torch.nn.RMSNorm(24, 1e-6)
    rms.load_state_dict({"weight": weights["weight"]})
    params = {"params": {"scale": scale, "bias": bias}}
    with torch.no_grad():
        y = torch.tensor(np.asarray(x))
        assert relative_error(LayerNorm().apply({}, x), theirs[False](y)) <= TOLERANCE
        assert relative_error(LayerNorm(affine=True).apply(params, x), theirs[True](y)) <= TOLERANCE
        assert relative_error(RMSNorm().apply({"params": {"scale": scale}}, x), rms(y)) <= TOLERANCE


@pytest.mark.parity
@pytest.mark.parametrize("config", {model.dit for name, model in MODELS.items() if name.startswith("wan")})
def test_published_sizes_have_the_reference_s_parameters(reference, config):
    torch = pytest.importorskip("torch")
    with torch.device("meta"):
        model = reference.torch_model(config)
    theirs = {key: tuple(value.shape) for key, value in model.state_dict().items()}
    assert published_shapes(dit_leaves(config)) == theirs
