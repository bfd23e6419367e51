#!/usr/bin/env bash
# Copies this repository's last commit to every worker of a TPU, installs it there, and starts a training run.
#
#   tpu_scripts/launch.sh --project my-project --zone us-east5-b --name sora --type v6e-16 \
#       --workdir gs://my-bucket/runs/dit -- experiments/train/playground_dit.py --batch-size 64
#
#   --project, --zone, --name, --type, --slices   as they were given to tpu_scripts/create.sh
#   --workdir   gs://BUCKET/FOLDER, or a path that all workers share
#   after --    the experiment and its fields, as `sora-jax train` takes them; gs:// paths are mounted
#   --dry-run   prints the commands and runs none

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

allowed='--project --zone --name --type --slices --workdir'
parse "$@"
check_place
check_name --name "$name"
check_type
check_run
[[ $generation != tpu7x ]] || fail "$type is started through GKE: use tpu_scripts/xpk.sh launch."

cd "$(dirname "$0")/.."
[[ -f ${train[0]} ]] || fail "there is no experiment file ${train[0]} in this repository."
if [[ -n $(git status --porcelain --untracked-files=no 2>/dev/null) ]]; then
  printf '%s: note: what is not committed does not travel.\n' "$(basename "$0")" >&2
fi

place=(--project="$project" --zone="$zone" --worker=all)
archive=/tmp/$name-sora_jax.tar.gz
unpack='rm -rf sora_jax/sora_jax && mkdir -p sora_jax && tar -xzf sora_jax.tar.gz -C sora_jax'
run git archive --format=tar.gz --output="$archive" HEAD
for node in $(nodes); do
  run gcloud compute tpus tpu-vm scp "$archive" "$node:sora_jax.tar.gz" "${place[@]}"
  run gcloud compute tpus tpu-vm ssh "$node" "${place[@]}" \
    --command="$unpack && bash sora_jax/tpu_scripts/on_worker.sh install $(quoted "$workdir" "${train[@]}")"
done
# Started only when all slices are installed: they wait for one another five minutes, no longer.
for node in $(nodes); do
  run gcloud compute tpus tpu-vm ssh "$node" "${place[@]}" \
    --command="bash sora_jax/tpu_scripts/on_worker.sh start $generation $(quoted "$workdir" "${train[@]}")"
done
