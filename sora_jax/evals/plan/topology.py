"""The machines of a plan: TPU slices by name, as compilers and cloud consoles write them, and what joins their chips.

Two ways to write a slice, `v5p:4x4x4` (chips along each side) and Google's accelerator types: `v5e-16` and `v6e-16`
count chips, `v5p-128` and `tpu7x-128` TensorCores, two a chip (https://cloud.google.com/tpu/docs/v5p). `2x` before
either is two slices, joined by the data centre's network. `cpu:8` is eight fake devices of this machine.
"""

import contextlib
import dataclasses
import importlib.util
import itertools
import math
import os
import re
from typing import Any

import jax

from sora_jax.parallel.xla_flags import xla_flags
from sora_jax.train.peaks import CHIPS, GIB, Chip

__all__ = ["GENERATIONS", "Generation", "Topology", "devices_of", "parse_topology"]

MOST_CHIPS = 4096
TOGETHER = "https://cloud.google.com/tpu/docs/"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """A TPU generation: the chip, its network, and how slices of it are cut."""

    name: str
    chip: Chip
    sides: int
    """Dimensions of the torus."""
    cores_in_name: int
    """What N counts in Google's `NAME-N`, per chip."""
    link_bandwidth: float
    """Bytes a second over one link, one way. A chip has a link at each end of each dimension."""
    data_centre_bandwidth: float
    """Bytes a second of each chip's share of its host's network cards."""
    usable_memory: float
    """Bytes of a device's memory that the compiler hands out, as its own out-of-memory error counts them."""
    largest_slice: int
    """Chips."""
    price: float | None
    """US dollars a chip-hour on demand, in the cheapest US region; None where no list price is known."""
    source: str

    def wraps(self, extent: int) -> bool:
        """Whether chips along a side of this extent are joined to a ring."""
        return extent == 16 if self.sides == 2 else extent % 4 == 0


def _chip(name: str) -> Chip:
    return next(chip for chip in CHIPS if chip.name == name)


# Interconnect: "bidirectional ICI bandwidth per chip", halved and shared by the ports; data centre network: "per chip",
# or "per Pod" over its chips. Prices: on demand in US regions, as cloud.google.com/tpu/pricing had them in 2025; look
# there before you book, and give --price.
GENERATIONS = {
    generation.name: generation
    for generation in (
        Generation(
            name="v5e",
            chip=_chip("TPU v5e"),
            sides=2,
            cores_in_name=1,
            link_bandwidth=50e9,
            data_centre_bandwidth=25e9 / 8,
            usable_memory=15.75 * GIB,
            largest_slice=256,
            price=1.20,
            source=TOGETHER + "v5e",
        ),
        Generation(
            name="v5p",
            chip=_chip("TPU v5p"),
            sides=3,
            cores_in_name=2,
            link_bandwidth=100e9,
            data_centre_bandwidth=50e9 / 8,
            usable_memory=95.74 * GIB,
            largest_slice=6144,
            price=4.20,
            source=TOGETHER + "v5p",
        ),
        Generation(
            name="v6e",
            chip=_chip("TPU v6e"),
            sides=2,
            cores_in_name=1,
            link_bandwidth=100e9,
            data_centre_bandwidth=100e9 / 8,
            usable_memory=31.25 * GIB,
            largest_slice=256,
            price=2.70,
            source=TOGETHER + "v6e",
        ),
        Generation(
            name="tpu7x",
            chip=_chip("TPU7x"),
            sides=3,
            cores_in_name=2,
            link_bandwidth=100e9,
            data_centre_bandwidth=100e9 / 8,
            usable_memory=94.75 * GIB,
            largest_slice=9216,
            price=None,
            source=TOGETHER + "tpu7x",
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Topology:
    """Slices of one shape; `generation` is None for fake devices of this machine."""

    generation: Generation | None
    shape: tuple[int, ...]
    slices: int = 1

    @property
    def chips(self) -> int:
        return math.prod(self.shape) * self.slices

    @property
    def devices(self) -> int:
        """JAX devices."""
        return self.chips * (self.generation.chip.devices if self.generation else 1)

    @property
    def name(self) -> str:
        if self.generation is None:
            return f"cpu:{self.chips}"
        slices = f"{self.slices}x " if self.slices > 1 else ""
        return f"{slices}{self.generation.name}:{'x'.join(map(str, self.shape))}".replace(" ", "")

    @property
    def said(self) -> str:
        """How the name was read."""
        if self.generation is None:
            return f"{self.chips} fake devices of this machine"
        of = f" in {self.slices} slices" if self.slices > 1 else ""
        dies = f", {self.devices} devices" if self.devices != self.chips else ""
        return f"{self.chips} chips of {self.generation.chip.name}{of}{dies}"


def parse_topology(text: str) -> Topology:
    """The topology of a name such as v5p:4x4x4, v6e-16, 2xv5p:4x4x8 or cpu:8.

    Raises ValueError for a name that is none, a shape that no slice has, and fewer than 4 or more than 4,096 chips.
    """
    if match := re.fullmatch(r"cpu:(\d+)", text):
        count = int(match[1])
        if not 1 <= count <= 64:
            raise ValueError(f"topology {text}: give 1 to 64 fake devices, as in cpu:8.")
        return Topology(None, (count,))
    match = re.fullmatch(r"(?:(\d+)x)?(v5e|v5litepod|v5p|v6e|tpu7x)(?::([\dx]+)|-(\d+))", text)
    if not match:
        raise ValueError(
            f"topology {text!r} is none: give one such as v5p:4x4x4, v6e-16, 2xv5p:4x4x8 for two slices, or cpu:8; "
            f"generations are {', '.join(GENERATIONS)}."
        )
    slices, generation = int(match[1] or 1), GENERATIONS[match[2].replace("v5litepod", "v5e")]
    if match[3]:
        shape = _shape(text, generation, match[3])
    else:
        cores = generation.cores_in_name
        if int(match[4]) % cores:
            raise ValueError(
                f"topology {text}: {generation.name}-N counts cores, {cores} a chip, so N is even."
            )
        shape = _shape_of(text, generation, int(match[4]) // cores)
    topology = Topology(generation, shape, slices)
    if math.prod(shape) > generation.largest_slice:
        raise ValueError(
            f"topology {text}: a slice of {generation.name} has at most {generation.largest_slice} chips and this is "
            f"{math.prod(shape)}: give several, as in 2x{generation.name}:..."
        )
    if slices < 1 or not 4 <= topology.chips <= MOST_CHIPS:
        raise ValueError(f"topology {text} has {topology.chips} chips: plans are for 4 to {MOST_CHIPS:,}.")
    return topology


def _shape(text: str, generation: Generation, sides: str) -> tuple[int, ...]:
    shape = tuple(int(side) for side in sides.split("x") if side)
    if len(shape) != generation.sides or min(shape) < 1 or sides != "x".join(map(str, shape)):
        raise ValueError(
            f"topology {text}: slices of {generation.name} have {generation.sides} sides, as in "
            f"{generation.name}:{'x'.join(['4'] * generation.sides)}."
        )
    return shape


def _shape_of(text: str, generation: Generation, chips: int) -> tuple[int, ...]:
    """The slice that so many chips are given as: sides of two to a host, then whole cubes, as near to one as can be."""
    small = {1: (1, 1), 4: (2, 2), 8: (2, 4)} if generation.sides == 2 else {4: (2, 2, 1), 8: (2, 2, 2)}
    small |= {16: (2, 2, 4), 32: (2, 4, 4)} if generation.sides == 3 else {}
    if chips in small:
        return small[chips]
    sides = [side for side in range(4, chips + 1, 4) if chips % side == 0]
    if generation.sides == 2:
        sides = [side for side in sides if side <= 16]
    fitting = [
        shape
        for shape in itertools.combinations_with_replacement(sides, generation.sides)
        if math.prod(shape) == chips
    ]
    if not fitting:
        raise ValueError(
            f"topology {text}: {generation.name} has no slice of {chips} chips; write its sides, as in "
            f"{generation.name}:{'x'.join(['4'] * generation.sides)}."
        )
    return min(fitting, key=sum)


def devices_of(topology: Topology) -> list[Any]:
    """The devices to compile for: described by libtpu, none of them there; or fake ones of this machine's CPU.

    Raises ValueError where libtpu isn't installed or doesn't know the topology, and where JAX already runs on fewer CPU
    devices.
    """
    if topology.generation is None:
        return _cpu_devices(topology.chips)
    if importlib.util.find_spec("libtpu") is None:
        raise ValueError("to compile for TPUs takes libtpu, without a TPU too: pip install 'sora_jax[tpu]'.")
    from jax.experimental import topologies

    # libtpu looks for the machine it is on, and wants it for itself: these tell it that it is on none. The compiler's
    # flags are those that runs are started with, unless others were given.
    for name, value in {
        "LIBTPU_INIT_ARGS": xla_flags(topology.generation.name),
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "TPU_ACCELERATOR_TYPE": "v5p-8",
    }.items():
        os.environ.setdefault(name, value)
    shape = "x".join(map(str, topology.shape))
    slices = {"num_slices": topology.slices} if topology.slices > 1 else {}
    try:
        described = topologies.get_topology_desc(f"{topology.generation.name}:{shape}", "tpu", **slices)
    except Exception as error:  # of jaxlib's own class, with the library's reason
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"topology {topology.name}: libtpu describes no such slice ({reason}).") from error
    return list(described.devices)


def _cpu_devices(count: int) -> list[Any]:
    with contextlib.suppress(RuntimeError):  # JAX runs already, on the devices that it has
        jax.config.update("jax_num_cpu_devices", count)
    devices = jax.devices("cpu")
    if len(devices) < count:
        raise ValueError(
            f"topology cpu:{count}: JAX runs on {len(devices)} CPU devices already; plan in a process of its own."
        )
    return devices[:count]
