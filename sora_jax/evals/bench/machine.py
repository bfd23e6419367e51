"""What a benchmark ran on: device, host, versions, the source's commit, and the peak to compare with."""

import datetime
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from sora_jax.evals.bench.record import Machine, Measure, Peak, Record
from sora_jax.train.peaks import find_chip

__all__ = ["commit", "machine", "peak", "record"]

PACKAGES = ("sora_jax", "jax", "jaxlib", "flax", "optax", "grain", "numpy", "torch", "diffusers", "libtpu")
FLAGS = ("XLA_FLAGS", "LIBTPU_INIT_ARGS", "GLIBC_TUNABLES", "XLA_PYTHON_CLIENT_MEM_FRACTION")


def machine() -> Machine:
    """This one."""
    device = jax.devices()[0]
    memory = device.memory_stats() if device.platform != "cpu" else None
    return Machine(
        platform=device.platform,
        device_kind=device.device_kind,
        devices=jax.device_count(),
        processes=jax.process_count(),
        device_memory_bytes=(memory or {}).get("bytes_limit"),
        driver=_driver(device),
        host_cpu=_cpu(),
        host_cores=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        host_memory_bytes=_host_memory(),
    )


def peak(dtype: str = "float32") -> Peak | None:
    """The maker's figure of one device; None where there is none, as of a CPU."""
    chip = find_chip(jax.devices()[0].device_kind)
    if chip is None or dtype not in chip.matmul_flops:
        return None
    return Peak(flops_per_second=chip.peak(dtype), dtype=dtype, source=f"{chip.name}: {chip.source}")


def commit() -> str | None:
    """The commit of the source, with a + where files differ from it; None where it is no Git checkout."""
    folder = Path(__file__).parents[3]
    if not (folder / ".git").exists():
        return None
    try:
        found = [
            subprocess.run(
                ["git", "-C", str(folder), *arguments], capture_output=True, text=True, check=True, timeout=30
            ).stdout.strip()
            for arguments in (("rev-parse", "HEAD"), ("status", "--porcelain", "--untracked-files=no"))
        ]
    except (OSError, subprocess.SubprocessError):
        return None
    return found[0] + ("+" if found[1] else "")


def record(
    bench: str,
    settings: Mapping[str, Any],
    measures: Sequence[Measure],
    *,
    peak: Peak | None = None,
    mesh: Mapping[str, int] | None = None,
) -> Record:
    """The record of what was measured just now, here."""
    return Record(
        bench=bench,
        settings=dict(settings),
        measures=tuple(measures),
        peak=peak or _cpu_peak(measures),
        peak_memory_bytes=_peak_memory(),
        machine=machine(),
        mesh=dict(mesh or {}),
        versions=_versions(),
        flags={name: os.environ[name] for name in FLAGS if os.environ.get(name)},
        commit=commit(),
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )


def _cpu_peak(measures: Sequence[Measure]) -> Peak | None:
    found = [each.seconds.cpu_peak for each in measures if each.seconds and each.seconds.cpu_peak]
    if not found:
        return None
    source = "products of 2048 x 2048 matrices in turns with what was measured"
    # The devices of a process share its CPU.
    return Peak(flops_per_second=max(found) / jax.local_device_count(), dtype="float32", source=source)


def _versions() -> dict[str, str]:
    """Of Python and of the packages that are loaded."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        if name in sys.modules or (name == "libtpu" and jax.default_backend() == "tpu"):
            try:
                found[name] = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                found[name] = getattr(sys.modules.get(name), "__version__", "source")
    return found


def _peak_memory() -> int | None:
    stats = jax.devices()[0].memory_stats() if jax.default_backend() != "cpu" else None
    if stats:
        return stats.get("peak_bytes_in_use")
    if jax.default_backend() != "cpu" or sys.platform == "win32":
        return None
    import resource

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else 1024 * most


def _driver(device: Any) -> str | None:
    """The runtime's version as JAX has it, with NVIDIA's kernel driver."""
    words = str(getattr(device.client, "platform_version", "")).split()
    nvidia = Path("/proc/driver/nvidia/version")
    if device.platform == "gpu" and nvidia.is_file():
        words += nvidia.read_text().splitlines()[0].split()
    return " ".join(words) if words and words != [device.platform] else None


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    names = [line.split(":", 1)[1] for line in _lines(info) if line.startswith("model name")]
    return (names[0].strip() if names else platform.processor()) or platform.machine()


def _lines(path: Path) -> list[str]:
    return path.read_text().splitlines() if path.is_file() else []


def _host_memory() -> int:
    if hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0
