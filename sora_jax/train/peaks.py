"""What accelerators can do at most, by the name that JAX gives their kind: dense matrix products, memory, bandwidth.

Figures are the makers' own, of a whole chip, without structured sparsity. A share of peak is against these.
"""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

__all__ = ["CHIPS", "Chip", "find_chip"]

GIB = 2.0**30


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chip:
    """One accelerator.

    `matmul_flops` is by dtype; `float32` is what JAX does by default with float32 inputs: one pass in bfloat16 on TPU,
    TF32 on GPU. Bandwidth is that of the chip's own memory.
    """

    name: str
    kinds: tuple[str, ...]
    """`jax.Device.device_kind` of its devices."""
    matmul_flops: Mapping[str, float]
    """FLOP/s (integer operations a second for int8)."""
    memory_bytes: float
    memory_bandwidth: float
    """Bytes a second."""
    devices: int = 1
    """JAX devices that a chip shows as; each has its share of the chip."""
    source: str

    def peak(self, dtype: str = "bfloat16") -> float:
        """FLOP/s of one JAX device in `dtype`. ValueError where the maker names no figure for it."""
        if dtype not in self.matmul_flops:
            known = ", ".join(self.matmul_flops)
            raise ValueError(f"no peak of {self.name} is known in {dtype}: choose one of {known}.")
        return self.matmul_flops[dtype] / self.devices


def _flops(**tera: float) -> Mapping[str, float]:
    return MappingProxyType({dtype: 1e12 * figure for dtype, figure in tera.items()})


_TPU, _NVIDIA = "https://cloud.google.com/tpu/docs/", "https://www.nvidia.com/en-us/data-center/"
_HOPPER = "NVIDIA H100 Tensor Core GPU Architecture (white paper), table 2; " + _NVIDIA

CHIPS = (
    Chip(
        name="TPU v4",
        kinds=("TPU v4",),
        matmul_flops=_flops(bfloat16=275, float32=275, int8=275),
        memory_bytes=32 * GIB,
        memory_bandwidth=1200e9,
        source=_TPU + "v4",
    ),
    Chip(
        name="TPU v5e",
        kinds=("TPU v5 lite", "TPU v5e"),
        matmul_flops=_flops(bfloat16=197, float32=197, int8=393),
        memory_bytes=16 * GIB,
        memory_bandwidth=819e9,
        source=_TPU + "v5e",
    ),
    Chip(
        name="TPU v5p",
        kinds=("TPU v5", "TPU v5p"),
        matmul_flops=_flops(bfloat16=459, float32=459, int8=918),
        memory_bytes=95 * GIB,
        memory_bandwidth=2765e9,
        source=_TPU + "v5p",
    ),
    Chip(
        name="TPU v6e",
        kinds=("TPU v6 lite", "TPU v6e"),
        matmul_flops=_flops(bfloat16=918, float32=918, int8=1836),
        memory_bytes=32 * GIB,
        memory_bandwidth=1638e9,
        source=_TPU + "v6e",
    ),
    Chip(
        name="TPU7x",
        kinds=("TPU7x",),
        matmul_flops=_flops(bfloat16=2307, float32=2307, float8=4614),
        memory_bytes=192 * GIB,
        memory_bandwidth=7380e9,
        devices=2,
        source=_TPU + "tpu7x",
    ),
    Chip(
        name="A100 40 GB",
        kinds=("NVIDIA A100-SXM4-40GB", "NVIDIA A100-PCIE-40GB"),
        matmul_flops=_flops(bfloat16=312, float32=156, int8=624),
        memory_bytes=40e9,
        memory_bandwidth=1555e9,
        source=_NVIDIA + "a100/",
    ),
    Chip(
        name="A100 80 GB",
        kinds=("NVIDIA A100-SXM4-80GB",),
        matmul_flops=_flops(bfloat16=312, float32=156, int8=624),
        memory_bytes=80e9,
        memory_bandwidth=2039e9,
        source=_NVIDIA + "a100/",
    ),
    Chip(
        name="A100 80 GB PCIe",
        kinds=("NVIDIA A100 80GB PCIe",),
        matmul_flops=_flops(bfloat16=312, float32=156, int8=624),
        memory_bytes=80e9,
        memory_bandwidth=1935e9,
        source=_NVIDIA + "a100/",
    ),
    Chip(
        name="H100",
        kinds=("NVIDIA H100 80GB HBM3",),
        matmul_flops=_flops(bfloat16=989.4, float32=494.7, float8=1978.9, int8=1978.9),
        memory_bytes=80e9,
        memory_bandwidth=3350e9,
        source=_HOPPER + "h100/",
    ),
    Chip(
        name="H100 PCIe",
        kinds=("NVIDIA H100 PCIe",),
        matmul_flops=_flops(bfloat16=756, float32=378, float8=1513, int8=1513),
        memory_bytes=80e9,
        memory_bandwidth=2000e9,
        source=_HOPPER + "h100/",
    ),
    Chip(
        name="H200",
        kinds=("NVIDIA H200",),
        matmul_flops=_flops(bfloat16=989.4, float32=494.7, float8=1978.9, int8=1978.9),
        memory_bytes=141e9,
        memory_bandwidth=4800e9,
        source=_HOPPER + "h200/",
    ),
    Chip(
        name="B200",
        kinds=("NVIDIA B200",),
        matmul_flops=_flops(bfloat16=2250, float32=1125, float8=4500, int8=4500),
        memory_bytes=180e9,
        memory_bandwidth=7700e9,
        source=_NVIDIA + "hgx/ (an eighth of HGX B200, halved where the page counts sparsity)",
    ),
)
"""Dense figures: where NVIDIA's page counts 2:4 sparsity, half of it."""


def find_chip(device_kind: str) -> Chip | None:
    """The chip whose devices JAX calls `device_kind`; None for one that is not in the table (a CPU, say)."""
    return next((chip for chip in CHIPS if device_kind in chip.kinds), None)
