"""The least time that a step can take: t = max(FLOPs / peak, bytes / memory bandwidth, ICI, DCN)  (Williams, Waterman,
Patterson: Roofline, CACM 52(4), 2009).

Everything overlaps with everything else, the matrix units never wait, the memory and every link run at the maker's
figure: no run is faster, and real ones are slower. MFU is bound by  useful FLOPs / (t · peak), useful being the
mathematics alone, without what a policy or a kernel computes twice (arXiv 2204.02311, appendix B).
"""

import dataclasses

from sora_jax.evals.plan.topology import Topology

__all__ = ["Roofline", "cost", "roofline"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Roofline:
    """Seconds of one step by what would bound it alone."""

    compute: float
    memory: float
    ici: float
    dcn: float
    useful: float
    """Seconds of the useful FLOPs at the peak."""

    @property
    def seconds(self) -> float:
        return max(self.compute, self.memory, self.ici, self.dcn)

    @property
    def mfu(self) -> float:
        """The bound, in [0, 1]."""
        return self.useful / self.seconds

    @property
    def limit(self) -> str:
        """What takes the longest."""
        return max(("compute", "memory", "ici", "dcn"), key=lambda name: getattr(self, name))


def roofline(
    topology: Topology,
    *,
    useful_flops: float,
    flops: float,
    bytes_moved: float,
    ici_seconds: float,
    dcn_seconds: float,
    dtype: str = "bfloat16",
) -> Roofline:
    """The bound of a step. FLOPs are of all devices together, `bytes_moved` of one.

    Raises ValueError for a topology whose peaks aren't known.
    """
    if topology.generation is None:
        raise ValueError(f"{topology.name} has no table of peaks: plan for a TPU.")
    chip = topology.generation.chip
    peak = topology.devices * chip.peak(dtype)
    return Roofline(
        compute=flops / peak,
        memory=bytes_moved * chip.devices / chip.memory_bandwidth,
        ici=ici_seconds,
        dcn=dcn_seconds,
        useful=useful_flops / peak,
    )


def cost(
    topology: Topology, step_seconds: float, examples_per_step: float, samples: int, price: float | None
) -> tuple[float, float | None]:
    """Chip-hours and dollars of so many samples, at `price` a chip-hour (default: the generation's list price)."""
    chip_hours = samples / examples_per_step * step_seconds * topology.chips / 3600
    if price is None and topology.generation is not None:
        price = topology.generation.price
    return chip_hours, None if price is None else chip_hours * price
