#!/usr/bin/env bash
# The compiler's flags for one TPU generation, for LIBTPU_INIT_ARGS. All of them are known to libtpu 0.0.42 (jax 0.10.2);
# a name that libtpu doesn't know stops it at the start, so look here first after an update.
#
#   export LIBTPU_INIT_ARGS="$(tpu_scripts/xla_flags.sh v6e)"
#
# Sources: openxla.org/xla/flags_guidance; MaxText, benchmarks/xla_flags_library.py; MaxDiffusion's guide to training
# Wan 2.1 on v5p. None was measured on this network.

set -euo pipefail
[[ $# == 1 ]] || {
  printf 'xla_flags.sh: give one of v5e, v5p, v6e and tpu7x.\n' >&2
  exit 2
}

# FSDP gathers each layer's weights: the gather runs in steps between the products of the layer before (default on
# newer chips; the guidance asks for it by name on v5e).
flags=(
  --xla_enable_async_all_gather=true
  --xla_tpu_enable_async_collective_fusion=true
  --xla_tpu_enable_async_collective_fusion_fuse_all_gather=true
  --xla_tpu_enable_async_collective_fusion_multiple_steps=true
  --xla_tpu_overlap_compute_collective_tc=true
)
# Ring attention's sends run beside the block of attention that is computed meanwhile; Ulysses' exchange likewise.
flags+=(
  --xla_enable_async_collective_permute=true
  --xla_tpu_enable_async_all_to_all=true
)
# Slices that share only the data axis sum gradients over the slow network while the backward pass goes on.
flags+=(
  --xla_tpu_enable_data_parallel_all_reduce_opt=true
  --xla_tpu_data_parallel_opt_different_sized_ops=true
)
case $1 in
  v5e) ;; # no source gives it another limit
  # More on-chip memory to each kernel, so that larger fusions and attention blocks fit: what MaxDiffusion gives Wan.
  v5p | tpu7x) flags+=(--xla_tpu_scoped_vmem_limit_kib=65536) ;;
  # MaxText's limit for dense models.
  v6e) flags+=(--xla_tpu_scoped_vmem_limit_kib=98304) ;;
  *)
    printf "xla_flags.sh: there is no TPU generation '%s': give v5e, v5p, v6e or tpu7x.\n" "$1" >&2
    exit 2
    ;;
esac
printf '%s\n' "${flags[*]}"
