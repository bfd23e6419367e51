"""What a device of this process has of memory."""

import os

import jax

SHARE = 0.9
"""Of the memory that is planned with; the rest is for what the estimates leave out."""


def device_memory() -> int:
    """Bytes that programs of this process may use on the first device: its limit, or the machine's memory on a CPU."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return stats.get("bytes_limit") or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def free_memory() -> int:
    """Bytes that can be planned with on this process's first device, beside the arrays that lie there."""
    stats = jax.local_devices()[0].memory_stats() or {}
    return int(SHARE * device_memory()) - stats.get("bytes_in_use", 0)
