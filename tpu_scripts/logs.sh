#!/usr/bin/env bash
# Follows what a run on a TPU says.
#
#   tpu_scripts/logs.sh --project my-project --zone us-east5-b --name sora
#
#   --worker N   whose log; default 0, which shows the progress
#   --dry-run    prints the command and runs none

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

allowed='--project --zone --name --worker'
parse "$@"
check_place
check_name --name "$name"
[[ $worker =~ ^[0-9]+$ ]] || fail "--worker '$worker' is no number: workers count from 0."
run gcloud compute tpus tpu-vm ssh "$name" --project="$project" --zone="$zone" --worker="$worker" \
  --command='tail -n 100 -F sora_jax.log'
