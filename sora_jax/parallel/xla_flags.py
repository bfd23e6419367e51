"""The compiler's flags for one TPU generation, for LIBTPU_INIT_ARGS: runs start with them, plans compile with them.

    export LIBTPU_INIT_ARGS="$(tpu_scripts/xla_flags.sh v6e)"

All of them are known to libtpu 0.0.42 (jax 0.10.2); a name that libtpu doesn't know stops it at the start, so look here
first after an update. Sources: openxla.org/xla/flags_guidance; MaxText, benchmarks/xla_flags_library.py; MaxDiffusion's
guide to training Wan 2.1 on v5p; plans of the shipped experiments. None was timed on chips. Run as a file it prints
them, and needs nothing but Python.
"""

import sys

EVERYWHERE = (
    # FSDP gathers each layer's weights: the gather runs in steps between the products of the layer before (default on
    # newer chips; the guidance asks for it by name on v5e).
    "--xla_enable_async_all_gather=true",
    "--xla_tpu_enable_async_collective_fusion=true",
    "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
    "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
    "--xla_tpu_overlap_compute_collective_tc=true",
    # Without these a product with gathered weights becomes a loop over their shards, whose every turn reads and writes
    # the whole result again: in the plan of Wan 1.3B on 16 v6e, 4.7 TB a step and chip beside the kernels, not 1.4.
    "--xla_tpu_enable_windowed_einsum_for_all_gather=false",
    "--xla_tpu_enable_windowed_einsum_for_reduce_scatter=false",
    # Ring attention's sends run beside the block of attention that is computed meanwhile; Ulysses' exchange likewise.
    "--xla_enable_async_collective_permute=true",
    "--xla_tpu_enable_async_all_to_all=true",
    # Slices that share only the data axis sum gradients over the slow network while the backward pass goes on.
    "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
    "--xla_tpu_data_parallel_opt_different_sized_ops=true",
)
OWN = {
    "v5e": (),  # no source gives it another limit
    # More on-chip memory to each kernel, so that larger fusions and attention blocks fit: what MaxDiffusion gives Wan.
    "v5p": ("--xla_tpu_scoped_vmem_limit_kib=65536",),
    "tpu7x": ("--xla_tpu_scoped_vmem_limit_kib=65536",),
    # MaxText's limit for dense models.
    "v6e": ("--xla_tpu_scoped_vmem_limit_kib=98304",),
}


def xla_flags(generation: str) -> str:
    """The flags of v5e, v5p, v6e or tpu7x, with spaces between. Raises ValueError for another generation."""
    if generation not in OWN:
        raise ValueError(f"there is no TPU generation {generation!r}: give one of {', '.join(OWN)}.")
    return " ".join((*EVERYWHERE, *OWN[generation]))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.stderr.write(f"xla_flags.sh: give one of {', '.join(OWN)}.\n")
        sys.exit(2)
    try:
        print(xla_flags(sys.argv[1]))
    except ValueError as error:
        sys.stderr.write(f"xla_flags.sh: {error}\n")
        sys.exit(2)
