"""What is read off compiled programs, against sums by hand. `make_programs.py` compiled them for TPUs."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import pytest
from make_programs import FOLDER, PROGRAMS, ROWS, SIZE, TURNS, WIDTH

from sora_jax.evals.plan.collectives import collectives, groups_of, total_bytes
from sora_jax.evals.plan.hlo import parse_hlo
from sora_jax.evals.plan.topology import parse_topology
from sora_jax.evals.plan.work import memory_bytes, product_flops


def read(name):
    program = parse_hlo((FOLDER / f"{name}.txt").read_text())
    topology = parse_topology(PROGRAMS[name][1])
    devices = [
        SimpleNamespace(id=i, coords=(i % 2, i // 2 % 2, 0), slice_index=i // 4)
        for i in range(topology.devices)
    ]
    return program, list(collectives(program, devices, topology)), topology


def test_a_loop_counts_as_often_as_it_turns():
    program, found, _ = read("loop")
    assert not program.unknown_loops
    # Forward, and backward to what comes in and to the matrix.
    assert product_flops(program) == 3 * TURNS * 2 * ROWS // 4 * WIDTH * WIDTH
    part = WIDTH * WIDTH // 4
    sent = total_bytes(found)["ici"]
    assert (
        sent["all-gather"] == 2 * TURNS * 3 * part * 2
    )  # bfloat16, in the forward loop and in the backward one
    assert sent["reduce-scatter"] == TURNS * 3 * part * 4  # float32 gradients
    assert sent["all-reduce"] == sent["all-to-all"] == sent["collective-permute"] == 0


def test_what_each_kind_sends():
    _, found, topology = read("collectives")
    sent = total_bytes(found)
    whole = 4 * SIZE
    assert sent["ici"]["all-gather"] == 3 * whole
    # The compiler joins the scattered sum with the other one.
    assert sent["ici"]["all-reduce"] + sent["ici"]["reduce-scatter"] == 2 * (2 * 3 / 4 * whole)
    assert sent["ici"]["all-to-all"] == 3 / 4 * whole
    assert sent["ici"]["collective-permute"] == whole
    assert not any(sent["dcn"].values())
    # Two sides of two chips each: two links of 100 GB/s, or one for a permute.
    seconds = {one.kind: one.ici_seconds for one in found}
    assert seconds["all-gather"] == pytest.approx(3 * whole / 200e9)
    assert seconds["collective-permute"] == pytest.approx(whole / 100e9)
    assert topology.chips == 4


def test_slices_exchange_over_the_data_centre_s_network():
    _, found, _ = read("slices")
    sent = total_bytes(found)
    assert sent["ici"]["all-reduce"] == 2 * 3 / 4 * 4 * SIZE
    assert sent["dcn"]["all-reduce"] == 2 * 1 / 2 * 4 * SIZE
    (across,) = [one for one in found if one.dcn_bytes]
    assert across.dcn_seconds == pytest.approx(4 * SIZE / (25e9 / 8))


@pytest.mark.parametrize(
    ("written", "groups"),
    [
        ("replica_groups={{0,1},{2,3}}", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[4]", [[0, 1], [2, 3]]),
        ("replica_groups=[2,2]<=[2,2]T(1,0)", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2] {'a'}", [[0, 2], [1, 3]]),
        ("replica_groups=mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", [[0, 1], [2, 3]]),
        ("replica_groups=mesh['a'=8] {'a':(2)2}", [[0, 2], [1, 3], [4, 6], [5, 7]]),
        ("source_target_pairs={{0,1},{1,0}}", [[0, 1], [1, 0]]),
        ("channel_id=1", []),
    ],
)
def test_groups_in_every_notation(written, groups):
    assert groups_of(f", channel_id=3, {written}, dimensions={{0}}") == groups


def test_cpu_programs_are_read_too():
    def f(x, w):
        return jax.lax.fori_loop(0, 7, lambda _, x: jnp.sin(x @ w), x)

    w = jnp.ones((64, 64))
    program = parse_hlo(jax.jit(f).lower(w, w).compile().as_text())
    assert product_flops(program) == 7 * 2 * 64**3
    # At the least x goes in and out in each turn; at the most a few times.
    assert 7 * 2 * 4 * 64**2 <= memory_bytes(program) <= 7 * 12 * 4 * 64**2


def test_convolutions_count_only_taps_that_meet_something():
    kernel, x = jnp.ones((3, 3, 5, 7)), jnp.ones((2, 8, 8, 5))

    def f(x, kernel):
        return jax.lax.conv_general_dilated(
            x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

    text = jax.jit(f).lower(x, kernel).compile().as_text()
    if "convolution(" not in text:
        pytest.skip("this backend has another kernel for it")
    met = 3 * 8 - 2  # of each side's three taps at eight places, one misses at either end
    assert product_flops(parse_hlo(text)) == 2 * 2 * 5 * 7 * met * met


def test_notes_on_a_kernel_end_no_computation():
    """As TPU's compiler writes them: over several lines, one of which starts with braces."""
    text = """HloModule m

ENTRY %main (p: f32[8]) -> f32[8] {
  %p = f32[8]{0} parameter(0)
  %kernel = f32[8]{0} custom-call(%p), custom_call_target="tpu_custom_call", frontend_attributes={kernel_metadata={
"block": 512
}}, metadata={op_name="x"}
  ROOT %sum = f32[8]{0} all-reduce(%kernel), replica_groups={{0,1}}
}
"""
    (body,) = parse_hlo(text).computations.values()
    assert list(body) == ["p", "kernel", "sum"]
    assert 'op_name="x"' in body["kernel"].attributes


def test_what_is_no_program():
    with pytest.raises(ValueError, match="has no ENTRY computation"):
        parse_hlo("HloModule nothing\n")
