#!/usr/bin/env bash
# The same on Google Kubernetes Engine, through XPK (pip install xpk). The only way to tpu7x.
#
#   tpu_scripts/xpk.sh create    --project my-project --zone us-central1-c --cluster pods --type tpu7x-16 --spot \
#       --workdir gs://my-bucket/runs/dit
#   tpu_scripts/xpk.sh launch    --project my-project --zone us-central1-c --cluster pods --type tpu7x-16 --name sora \
#       --workdir gs://my-bucket/runs/dit -- experiments/train/playground_dit.py --batch-size 64
#   tpu_scripts/xpk.sh logs      --project my-project --zone us-central1-c --cluster pods --name sora
#   tpu_scripts/xpk.sh stop      --project my-project --zone us-central1-c --cluster pods --name sora
#   tpu_scripts/xpk.sh tear-down --project my-project --zone us-central1-c --cluster pods
#
#   --cluster    what the cluster is called, and --name what the run is
#   --slices N   slices of that type (default 1)
#   --spot       cheaper, and taken away when others need it (default: on demand)
#   --workdir    gs://BUCKET/FOLDER; `create` mounts the bucket in every pod as /gcs/BUCKET
#   --dry-run    prints the commands and runs none
#
# A run whose pods are taken away is started again up to 50 times, and goes on from its newest checkpoint.

set -euo pipefail
# shellcheck source-path=SCRIPTDIR source=arguments.sh
source "$(dirname "$0")/arguments.sh"

(($#)) || {
  usage >&2
  exit 2
}
case $1 in
  -h | --help)
    usage
    exit 0
    ;;
  create) allowed='--project --zone --cluster --type --slices --spot --workdir' ;;
  launch) allowed='--project --zone --cluster --type --slices --name --workdir' ;;
  logs | stop) allowed='--project --zone --cluster --name' ;;
  tear-down) allowed='--project --zone --cluster' ;;
  *) fail "there is no action '$1': choose create, launch, logs, stop or tear-down." ;;
esac
action=$1
parse "${@:2}"
check_place
check_name --cluster "$cluster"
place=(--cluster="$cluster" --project="$project" --zone="$zone")

case $action in
  create)
    check_type
    kind=--on-demand
    if "$spot"; then kind=--spot; fi
    run xpk cluster create "${place[@]}" --tpu-type="$type" --num-slices="$slices" "$kind"
    if [[ -n $workdir ]]; then
      [[ $workdir =~ ^gs://([a-z0-9._-]+)(/|$) ]] || fail "--workdir '$workdir' is in no bucket: give gs://BUCKET/FOLDER."
      bucket=${BASH_REMATCH[1]}
      run xpk storage attach "$bucket" "${place[@]}" --type=gcsfuse --bucket="$bucket" --mount-point="/gcs/$bucket" \
        --readonly=false --size=1 --auto-mount=true --mount-options=implicit-dirs
    fi
    ;;
  launch)
    check_type
    check_name --name "$name"
    check_run
    cd "$(dirname "$0")/.."
    [[ -f ${train[0]} ]] || fail "there is no experiment file ${train[0]} in this repository."
    run xpk workload create "${place[@]}" --workload="$name" --tpu-type="$type" --num-slices="$slices" \
      --max-restarts=50 --base-docker-image=python:3.12 --script-dir=. \
      --command="bash tpu_scripts/on_worker.sh pod $generation $(quoted "$workdir" "${train[@]}")"
    ;;
  logs)
    check_name --name "$name"
    run gcloud container clusters get-credentials "$cluster" --project="$project" --location="${zone%-*}"
    run kubectl logs --follow --tail=100 --all-containers --prefix \
      --selector="jobset.sigs.k8s.io/jobset-name=$name,batch.kubernetes.io/job-completion-index=0"
    ;;
  stop)
    check_name --name "$name"
    run xpk workload delete "${place[@]}" --workload="$name"
    ;;
  tear-down) run xpk cluster delete "${place[@]}" ;;
esac
