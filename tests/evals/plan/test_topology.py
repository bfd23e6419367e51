"""Names of slices are read as cloud consoles and compilers write them."""

import importlib.util

import pytest

from sora_jax.evals.plan.topology import GENERATIONS, devices_of, parse_topology


@pytest.mark.parametrize(
    ("text", "name", "chips", "devices"),
    [
        ("v5p:4x4x4", "v5p:4x4x4", 64, 64),
        ("v5p-8", "v5p:2x2x1", 4, 4),  # N counts cores
        ("v5p-64", "v5p:2x4x4", 32, 32),
        ("v5p-512", "v5p:4x8x8", 256, 256),
        ("v5p-8192", "v5p:16x16x16", 4096, 4096),
        ("v6e-16", "v6e:4x4", 16, 16),  # N counts chips
        ("v5litepod-8", "v5e:2x4", 8, 8),
        ("v5e-256", "v5e:16x16", 256, 256),
        ("tpu7x:4x4x8", "tpu7x:4x4x8", 128, 256),
        ("tpu7x-256", "tpu7x:4x4x8", 128, 256),
        ("2xv6e:16x16", "2xv6e:16x16", 512, 512),
        ("16xv6e-256", "16xv6e:16x16", 4096, 4096),
        ("cpu:8", "cpu:8", 8, 8),
    ],
)
def test_what_a_name_is(text, name, chips, devices):
    topology = parse_topology(text)
    assert (topology.name, topology.chips, topology.devices) == (name, chips, devices)
    assert parse_topology(topology.name) == topology
    assert str(chips) in topology.said


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("v4:2x2x1", "is none: give one such as v5p:4x4x4"),
        ("v5p", "is none"),
        ("v5p:4x4", "slices of v5p have 3 sides, as in v5p:4x4x4"),
        ("v5e:4xx4", "slices of v5e have 2 sides"),
        ("v5p-9", "counts cores, 2 a chip"),
        ("v6e-24", "has no slice of 24 chips"),
        ("v6e:32x16", "a slice of v6e has at most 256 chips"),
        ("v6e:1x1", "plans are for 4 to 4,096"),
        ("32xv6e:16x16", "plans are for 4 to 4,096"),
        ("cpu:0", "give 1 to 64 fake devices"),
    ],
)
def test_what_is_no_name(text, reason):
    with pytest.raises(ValueError, match=reason):
        parse_topology(text)


def test_the_rings_of_a_slice():
    assert [GENERATIONS["v5p"].wraps(n) for n in (1, 2, 4, 8, 12)] == [False, False, True, True, True]
    assert [GENERATIONS["v6e"].wraps(n) for n in (4, 8, 16)] == [False, False, True]


def test_links_add_up_to_the_published_bandwidth():
    """ "Bidirectional ICI bandwidth per chip", GB/s, of the page that each generation cites."""
    published = {"v5e": 400, "v5p": 1200, "v6e": 800, "tpu7x": 1200}
    for name, generation in GENERATIONS.items():
        assert 2 * 2 * generation.sides * generation.link_bandwidth == published[name] * 1e9


def test_without_libtpu_it_is_said_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"without a TPU too: pip install 'sora_jax\[tpu\]'"):
        devices_of(parse_topology("v5p-8"))


def test_fake_devices():
    assert len(devices_of(parse_topology("cpu:8"))) == 8
    with pytest.raises(ValueError, match="JAX runs on 8 CPU devices already"):
        devices_of(parse_topology("cpu:16"))
