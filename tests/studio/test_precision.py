import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from sora_jax.evals.bench.quantize import KINDS, measure
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.precision import keep_as, quantize
from sora_jax.studio.request import resolve


def test_what_steers_stays_in_float32():
    params = keep_as(tiny_model.checkpoint().params, "bfloat16")
    block = params["dit"]["blocks"]
    matrices = (block["ffn_in"]["kernel"], params["dit"]["head"]["kernel"], params["text"]["embedding"])
    assert {leaf.dtype.name for leaf in matrices} == {"bfloat16"}
    steering = (block["modulation"], block["cross_norm"]["scale"], block["ffn_in"]["bias"])
    steering += (params["dit"]["time"]["inner"]["kernel"], params["dit"]["time_modulation"]["kernel"])
    assert {leaf.dtype.name for leaf in (*steering, *jax.tree.leaves(params["vae"]))} == {"float32"}
    with pytest.raises(ValueError, match="bfloat16"):
        keep_as(params, "int8")


@pytest.mark.parametrize(("kind", "error"), [("int8", 1 / 254), ("fp8", 1 / 16)])
def test_weights_in_8_bits(kind, error):
    qwix = pytest.importorskip("qwix")
    whole = tiny_model.checkpoint().params
    small = keep_as(quantize(whole, kind), "bfloat16")
    kernel, original = small["dit"]["blocks"]["ffn_in"]["kernel"], whole["dit"]["blocks"]["ffn_in"]["kernel"]
    assert kernel.qvalue.dtype.itemsize == 1
    assert kernel.scale.shape == (2, 1, 16)
    # Half a step of the grid, in units of each output's largest weight.
    off = np.abs(np.asarray(qwix.dequantize(kernel)) - original)
    assert 0 < off.max() <= error * 1.01 * np.abs(original).max()
    assert (off <= error * 1.01 * np.abs(original).max(axis=1, keepdims=True)).all()
    assert small["dit"]["head"]["kernel"].dtype == jnp.bfloat16
    assert isinstance(small["dit"]["blocks"]["modulation"], np.ndarray)


def test_figures_of_a_generation():
    pytest.importorskip("qwix")
    request = resolve(tiny_model.CONFIG, ["a red circle"], steps=2)
    exact, int8 = measure(tiny_model.checkpoint(), request, ["int8"])
    assert (exact.variant, exact.figures["velocity_error"]) == ("float32", 0.0)
    assert exact.figures["psnr"] == float("inf")
    assert int8.figures["bytes"] < exact.figures["bytes"]
    assert 1e-4 < int8.figures["velocity_error"] < 0.1
    assert 20 < int8.figures["psnr"] < 80
    assert set(KINDS) >= {"bfloat16", "fp8"}


def test_what_is_missing_is_named(monkeypatch):
    with pytest.raises(ValueError, match="int8, fp8"):
        Pipeline(tiny_model.checkpoint(), quantize="int3")
    monkeypatch.setitem(sys.modules, "qwix", None)
    with pytest.raises(ValueError, match=r"pip install 'sora_jax\[quantize\]'"):
        Pipeline(tiny_model.checkpoint(), quantize="int8")
