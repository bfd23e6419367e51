#!/usr/bin/env bash
# What tpu_scripts/launch.sh and tpu_scripts/xpk.sh run on each worker, in the repository that they unpacked there.
#
#   on_worker.sh install WORKDIR EXPERIMENT ...             Python, packages, and the buckets that are named
#   on_worker.sh start GENERATION WORKDIR EXPERIMENT ...    the run, in the background; it writes ~/sora_jax.log
#   on_worker.sh pod GENERATION WORKDIR EXPERIMENT ...      both, in the foreground of a container
#
# gs://BUCKET/PATH among the words becomes /gcs/BUCKET/PATH, where the bucket is mounted (in a pod GKE does that).

set -euo pipefail
cd "$(dirname "$0")/.."

local_paths() {
  local word
  paths=()
  for word in "$@"; do
    [[ $word =~ ^(.*=)?gs://(.+)$ ]] && word=${BASH_REMATCH[1]}/gcs/${BASH_REMATCH[2]}
    paths+=("$word")
  done
}

install_packages() {
  # The images' own Python is older than the one that is needed.
  python3 -m pip install --quiet --user uv
  [[ -d .venv ]] || python3 -m uv venv --quiet --python 3.12 .venv
  python3 -m uv pip install --quiet --python .venv/bin/python -e '.[tpu]'
}

install_gcsfuse() {
  command -v gcsfuse >/dev/null && return
  local key=/usr/share/keyrings/cloud.google.asc where=https://packages.cloud.google.com/apt
  curl -fsSL "$where/doc/apt-key.gpg" | sudo tee "$key" >/dev/null
  echo "deb [signed-by=$key] $where gcsfuse-$(lsb_release -cs) main" |
    sudo tee /etc/apt/sources.list.d/gcsfuse.list >/dev/null
  sudo apt-get -qq update
  sudo apt-get -qq install -y gcsfuse >/dev/null
}

mount_buckets() {
  local word bucket
  for word in "$@"; do
    [[ $word =~ ^(.*=)?gs://([^/]+) ]] || continue
    bucket=${BASH_REMATCH[2]}
    mountpoint -q "/gcs/$bucket" && continue
    install_gcsfuse
    sudo mkdir -p "/gcs/$bucket"
    sudo chown "$(id -u)" "/gcs/$bucket"
    gcsfuse --implicit-dirs "$bucket" "/gcs/$bucket" >/dev/null
  done
}

environment() {
  LIBTPU_INIT_ARGS=$(bash tpu_scripts/xla_flags.sh "$1")
  export LIBTPU_INIT_ARGS PYTHONUNBUFFERED=1 JAX_PLATFORMS=tpu,cpu
}

action=$1
shift
case $action in
  install)
    install_packages
    mount_buckets "$@"
    ;;
  start)
    environment "$1"
    shift
    mount_buckets "$@"
    local_paths "$@"
    if [[ -f ~/sora_jax.pid ]] && kill -0 "$(<~/sora_jax.pid)" 2>/dev/null; then
      printf 'on_worker.sh: a run is going on here; stop it with: kill %s\n' "$(<~/sora_jax.pid)" >&2
      exit 1
    fi
    nohup setsid .venv/bin/sora-jax train "${paths[@]:1}" --workdir "${paths[0]}" --distributed \
      </dev/null >>~/sora_jax.log 2>&1 &
    printf '%s\n' $! >~/sora_jax.pid
    ;;
  pod)
    environment "$1"
    shift
    install_packages
    local_paths "$@"
    exec .venv/bin/sora-jax train "${paths[@]:1}" --workdir "${paths[0]}" --distributed
    ;;
  *)
    printf "on_worker.sh: there is no action '%s': install, start or pod.\n" "$action" >&2
    exit 2
    ;;
esac
