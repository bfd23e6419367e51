#!/usr/bin/env bash
# Brings back a TPU that was taken away, and starts its run again: it goes on from its newest checkpoint.
#
#   tpu_scripts/resume.sh --project my-project --zone us-east5-b --name sora --type v6e-16 --spot --watch \
#       --workdir gs://my-bucket/runs/dit -- experiments/train/playground_dit.py --batch-size 64
#
#   All options of tpu_scripts/create.sh and tpu_scripts/launch.sh, and
#   --watch     stays, and brings the TPU back each time that it is taken away
#   --dry-run   prints the commands for a TPU that was taken away, and runs none

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

allowed='--project --zone --name --type --slices --spot --workdir --watch'
parse "$@"
check_place
check_name --name "$name"
check_type
check_run
[[ $generation != tpu7x ]] || fail "on $type XPK restarts a run by itself: give it to tpu_scripts/xpk.sh launch."

here=$(dirname "$0")
place=(--project="$project" --zone="$zone")
same=(--project "$project" --zone "$zone" --name "$name" --type "$type" --slices "$slices")
create=("${same[@]}")
if "$spot"; then create+=(--spot); fi
launch=("${same[@]}" --workdir "$workdir" -- "${train[@]}")
state_of=(gcloud compute tpus queued-resources describe "$name" "${place[@]}" '--format=value(state.state)')
delete=(gcloud compute tpus queued-resources delete "$name" "${place[@]}" --force --quiet)

if "$dry_run"; then
  run "${state_of[@]}"
  run "${delete[@]}"
  "$here/create.sh" --dry-run "${create[@]}"
  "$here/launch.sh" --dry-run "${launch[@]}"
  exit
fi

while true; do
  found=$("${state_of[@]}" 2>/dev/null) || found=GONE
  case $found in
    ACTIVE) "$watch" || fail "$name is there: tpu_scripts/launch.sh starts a run on it." ;;
    GONE)
      "$here/create.sh" "${create[@]}"
      "$here/launch.sh" "${launch[@]}"
      ;;
    SUSPENDED | FAILED)
      run "${delete[@]}"
      "$here/create.sh" "${create[@]}"
      "$here/launch.sh" "${launch[@]}"
      ;;
    *) printf '%s is %s\n' "$name" "$found" >&2 ;;
  esac
  case $found in GONE | SUSPENDED | FAILED) "$watch" || exit 0 ;; esac
  sleep 60
done
