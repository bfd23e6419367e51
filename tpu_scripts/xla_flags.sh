#!/usr/bin/env bash
# Prints the compiler's flags for one TPU generation; which and why is in sora_jax/parallel/xla_flags.py.
#
#   export LIBTPU_INIT_ARGS="$(tpu_scripts/xla_flags.sh v6e)"

set -euo pipefail
exec python3 "$(dirname "${BASH_SOURCE[0]}")/../sora_jax/parallel/xla_flags.py" "$@"
