# shellcheck shell=bash disable=SC2034,SC2154 # the names are shared with the scripts
# Sourced by the scripts beside it: reads and checks their options, and runs a command or, with --dry-run, prints it.

fail() {
  printf '%s: %s\n' "$(basename "$0")" "$*" >&2
  exit 2
}

# The words of a command, quoted where a shell needs it.
quoted() {
  local word first=true
  for word in "$@"; do
    "$first" || printf ' '
    first=false
    if [[ $word =~ ^[A-Za-z0-9_./:=@,+-]+$ ]]; then
      printf '%s' "$word"
    else
      printf "'%s'" "${word//\'/\'\\\'\'}"
    fi
  done
}

run() {
  if "$dry_run"; then
    quoted "$@"
    printf '\n'
  else
    printf '+ %s\n' "$(quoted "$@")" >&2
    "$@"
  fi
}

# Shows the script's head comment.
usage() {
  sed -n '2,/^$/s/^# \{0,1\}//p' "$0"
}

# Fills name, project, zone, ... from the options; what comes after -- is `train`. `$allowed` names the options that
# this script takes.
parse() {
  name='' project='' zone='' type='' slices=1 slice=0 cluster='' workdir='' worker=0
  spot=false yes=false watch=false dry_run=false train=()
  check_secrets "$@"
  while (($#)); do
    case $1 in
      -h | --help)
        usage
        exit 0
        ;;
      --)
        shift
        train=("$@")
        return
        ;;
    esac
    [[ $1 == --* && " $allowed --dry-run " == *" $1 "* ]] || fail "there is no option '$1': choose among $allowed --dry-run."
    case $1 in
      --spot | --yes | --watch) printf -v "${1#--}" true ;;
      --dry-run) dry_run=true ;;
      *)
        (($# > 1)) || fail "$1 has no value: write it after the option."
        printf -v "${1#--}" '%s' "$2"
        shift
        ;;
    esac
    shift
  done
}

check_place() {
  [[ -n $project ]] || fail "no --project was given: name the Google Cloud project that pays, such as --project my-project."
  [[ $project =~ ^([a-z0-9.-]+:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$ ]] ||
    fail "--project '$project' is no project ID: 6 to 30 lower-case letters, digits and hyphens."
  [[ -n $zone ]] || fail "no --zone was given: name one that has this TPU, such as --zone us-east5-b."
  [[ $zone =~ ^[a-z]+-[a-z]+[0-9]+-[a-z]$ ]] || fail "--zone '$zone' is no zone: one looks like us-east5-b."
}

check_name() {
  local option=$1 value=$2
  [[ -n $value ]] || fail "no $option was given: choose a name, such as $option sora."
  [[ $value =~ ^[a-z]([a-z0-9-]{0,38}[a-z0-9])?$ ]] ||
    fail "$option '$value' can't be: use at most 40 lower-case letters, digits and hyphens, a letter first."
}

# Checks --type and --slices, and sets `generation` (v5e, v5p, v6e or tpu7x).
check_type() {
  [[ -n $type ]] || fail "no --type was given: choose one such as v5litepod-16, v5p-16, v6e-16 or tpu7x-16."
  local size=${type##*-} flat='1 4 8 16 32 64 128 256' deep='8 16 32 64' sizes most=0
  case $type in
    v5litepod-*) generation=v5e sizes=$flat ;;
    v6e-*) generation=v6e sizes=$flat ;;
    v5p-*) generation=v5p sizes=$deep most=12288 ;;
    tpu7x-*) generation=tpu7x sizes=$deep most=18432 ;;
    *) fail "--type '$type' is no TPU that these scripts know: choose v5litepod-N, v5p-N, v6e-N or tpu7x-N." ;;
  esac
  if [[ " $sizes " != *" $size "* ]]; then
    local whole_cubes=false
    if [[ $size =~ ^[1-9][0-9]{0,4}$ ]] && ((size <= most && size % 128 == 0)); then whole_cubes=true; fi
    if ((most)); then sizes+=" or a multiple of 128 up to $most"; fi
    "$whole_cubes" || fail "--type '$type' has no topology: ${type%-*} comes with N of $sizes."
  fi
  check_slices
}

check_slices() {
  [[ $slices =~ ^[1-9][0-9]{0,3}$ ]] || fail "--slices '$slices' is no count: give 1 or more."
}

# Refuses words that carry a secret, such as HF_TOKEN=... or --api-key ..., and doesn't say it: commands are printed.
check_secrets() {
  local word secret='(key|token|secret|password)'
  shopt -s nocasematch
  for word in "$@"; do
    if [[ $word =~ ^(--([a-z0-9]+[-_.])*$secret(=|$)|([a-z0-9]+_)*$secret=) ]]; then
      fail "${word%%=*} looks like a secret, and commands are printed: keep it in a file on the workers, such as ~/.cache/huggingface/token."
    fi
  done
  shopt -u nocasematch
}

# Checks --workdir and the words after --.
check_run() {
  [[ -n $workdir ]] || fail "no --workdir was given: name the run's folder, such as --workdir gs://my-bucket/runs/dit."
  [[ $workdir =~ ^(gs:/)?(/[A-Za-z0-9._-]+)+/?$ ]] ||
    fail "--workdir '$workdir' can't be: give gs://BUCKET/FOLDER or an absolute path, without spaces."
  ((${#train[@]})) || fail "no experiment was given: put it last, such as -- experiments/train/playground_dit.py."
  [[ ${train[0]} == *.py ]] || fail "'${train[0]}' is no experiment file: the first word after -- ends in .py."
}

# The names of the TPU's nodes, one a slice.
nodes() {
  local i
  if ((slices == 1)); then
    printf '%s\n' "$name"
  else
    for ((i = 0; i < slices; i++)); do printf '%s\n' "$name-$i"; done
  fi
}
