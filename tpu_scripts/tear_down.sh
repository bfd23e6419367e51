#!/usr/bin/env bash
# Gives a TPU back, and with it what its disks hold. What lies in a bucket stays.
#
#   tpu_scripts/tear_down.sh --project my-project --zone us-east5-b --name sora
#
#   --yes       doesn't ask first
#   --dry-run   prints the command and runs none

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

allowed='--project --zone --name --yes'
parse "$@"
check_place
check_name --name "$name"
ask=()
if "$yes"; then ask=(--quiet); fi
run gcloud compute tpus queued-resources delete "$name" --project="$project" --zone="$zone" --force "${ask[@]}"
