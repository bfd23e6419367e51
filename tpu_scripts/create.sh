#!/usr/bin/env bash
# Asks for a TPU as a queued resource, and waits until it is there.
#
#   tpu_scripts/create.sh --project my-project --zone us-east5-b --name sora --type v6e-16 --spot
#
#   --project, --zone   who pays, and where
#   --name              what the TPU is to be called
#   --type              v5litepod-N (v5e), v5p-N or v6e-N; tpu7x-N comes through tpu_scripts/xpk.sh
#   --slices N          N of them, joined by the data centre's network (default 1)
#   --spot              cheaper, and taken away when others need it (default: on demand)
#   --dry-run           prints the commands and runs none

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

allowed='--project --zone --name --type --slices --spot'
parse "$@"
check_place
check_name --name "$name"
check_type
((${#train[@]} == 0)) || fail "there is nothing to train yet: '${train[*]}' goes to tpu_scripts/launch.sh."

# The images are those that Google's documentation names for each generation.
case $generation in
  v5e) image=v2-alpha-tpuv5-lite ;;
  v5p) image=v2-alpha-tpuv5 ;;
  v6e) image=v2-alpha-tpuv6e ;;
  *) fail "$type isn't given out as a queued resource, only through GKE: use tpu_scripts/xpk.sh create." ;;
esac

place=(--project="$project" --zone="$zone")
request=(--accelerator-type="$type" --runtime-version="$image" --scopes=https://www.googleapis.com/auth/cloud-platform)
if ((slices == 1)); then
  request+=(--node-id="$name")
else
  request+=(--node-count="$slices" --node-prefix="$name")
fi
if "$spot"; then request+=(--spot); fi

run gcloud compute tpus queued-resources create "$name" "${place[@]}" "${request[@]}"

state_of=(gcloud compute tpus queued-resources describe "$name" "${place[@]}" '--format=value(state.state)')
if "$dry_run"; then
  run "${state_of[@]}"
  exit
fi
while true; do
  state=$("${state_of[@]}")
  case $state in
    ACTIVE) break ;;
    FAILED | SUSPENDED | SUSPENDING)
      printf '%s: %s is %s; tpu_scripts/tear_down.sh removes it.\n' "$(basename "$0")" "$name" "$state" >&2
      exit 1
      ;;
  esac
  printf '%s is %s\n' "$name" "$state" >&2
  sleep 30
done
printf '%s is there\n' "$name" >&2
