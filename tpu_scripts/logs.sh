#!/usr/bin/env bash
# Follows what a run on a TPU says.
#
#   tpu_scripts/logs.sh --project my-project --zone us-east5-b --name sora
#
#   --slices N   as it was given to tpu_scripts/create.sh (default 1)
#   --slice N    whose log, of several slices; default 0
#   --worker N   and of its workers; default 0, which shows the progress on slice 0
#   --dry-run    prints the command and runs none

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

allowed='--project --zone --name --slices --slice --worker'
parse "$@"
check_place
check_name --name "$name"
check_slices
if [[ ! $slice =~ ^(0|[1-9][0-9]{0,3})$ ]] || ((slice >= slices)); then
  fail "--slice '$slice' is none of $slices: slices count from 0, and --slices says how many there are."
fi
[[ $worker =~ ^[0-9]+$ ]] || fail "--worker '$worker' is no number: workers count from 0."
mapfile -t all < <(nodes)
run gcloud compute tpus tpu-vm ssh "${all[slice]}" --project="$project" --zone="$zone" --worker="$worker" \
  --command='tail -n 100 -F sora_jax.log'
