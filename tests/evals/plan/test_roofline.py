"""Bounds of a step by hand."""

import pytest

from sora_jax.evals.plan.plan import out_of_memory
from sora_jax.evals.plan.roofline import cost, roofline
from sora_jax.evals.plan.topology import parse_topology


def bound(topology="v5p:4x4x4", **changes):
    values = {"useful_flops": 0.0, "flops": 0.0, "bytes_moved": 0.0, "ici_seconds": 0.0, "dcn_seconds": 0.0}
    return roofline(parse_topology(topology), **(values | changes))


def test_each_bound_alone():
    assert bound(flops=64 * 459e12).seconds == pytest.approx(1)
    assert bound(bytes_moved=2765e9).seconds == pytest.approx(1)
    # Two devices share a chip's memory and its matrix units.
    assert bound("tpu7x:4x4x4", bytes_moved=3690e9).seconds == pytest.approx(1)
    assert bound("tpu7x:4x4x4", flops=64 * 2307e12).seconds == pytest.approx(1)


def test_the_slowest_bounds_and_is_named():
    both = bound(useful_flops=32 * 459e12, flops=64 * 459e12, bytes_moved=2765e9 / 2, ici_seconds=0.2)
    assert (both.seconds, both.limit) == (pytest.approx(1), "compute")
    assert both.mfu == pytest.approx(0.5)  # half of what is computed is computed twice
    network = bound(useful_flops=64 * 459e12, flops=64 * 459e12, dcn_seconds=4.0)
    assert (network.limit, network.mfu) == ("dcn", pytest.approx(0.25))


def test_no_peak_no_bound():
    with pytest.raises(ValueError, match="cpu:8 has no table of peaks: plan for a TPU"):
        bound("cpu:8")


def test_chip_hours_and_dollars():
    hours, dollars = cost(parse_topology("v5p:4x4x4"), 36.0, 32, 3200, None)
    assert hours == pytest.approx(100 * 36 / 3600 * 64)
    assert dollars == pytest.approx(hours * 4.20)
    assert cost(parse_topology("v5p:4x4x4"), 36.0, 32, 3200, 1.0)[1] == pytest.approx(hours)
    assert cost(parse_topology("tpu7x:4x4x4"), 36.0, 32, 3200, None)[1] is None


def test_the_compiler_s_refusal_is_read():
    message = (
        "RESOURCE_EXHAUSTED: XLA:TPU compile permanent error. Ran out of memory in memory space hbm. Used 23.50G of "
        "15.75G hbm. Exceeded hbm capacity by 7.75G."
    )
    refusal = out_of_memory(message)
    assert (refusal.needed, refusal.limit) == (int(23.5 * 2**30), int(15.75 * 2**30))
    early = (
        "RESOURCE_EXHAUSTED: Ran out of memory on HBM, the total memory required for HLO temporaries (512.00G) exceeds "
        "available HBM (95.74G)."
    )
    assert (out_of_memory(early).needed, out_of_memory(early).limit) == (512 * 2**30, int(95.74 * 2**30))
    assert out_of_memory("INTERNAL: something else") is None
