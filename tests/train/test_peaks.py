"""The table of accelerators: found by JAX's names, whole where a chip shows as several devices, and cited."""

import pytest

from sora_jax.train.peaks import CHIPS, find_chip


def test_kinds_lead_to_one_chip():
    kinds = [kind for chip in CHIPS for kind in chip.kinds]
    assert len(kinds) == len(set(kinds))
    for chip in CHIPS:
        assert all(find_chip(kind) is chip for kind in chip.kinds)
        assert chip.source
    assert find_chip("cpu") is None


def test_a_device_has_its_share_of_the_chip():
    found = find_chip("TPU7x")
    assert found.peak() == found.matmul_flops["bfloat16"] / 2
    assert find_chip("TPU v6 lite").peak() == 918e12
    with pytest.raises(ValueError, match="no peak of TPU v5p is known in float8"):
        find_chip("TPU v5").peak("float8")
