"""What the scripts would run, written down from the commands' documentation, and what they do with stand-ins."""

import os
import shlex
import subprocess
import time
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "tpu_scripts"
PLACE = "--project my-project --zone us-east5-b"
RUN = "--workdir gs://bucket/runs/dit -- experiments/train/playground_dit.py --batch-size 64"


def run(line, **environment):
    """Runs one of the scripts; the first word names it."""
    script, *words = shlex.split(line)
    return subprocess.run(
        ["bash", SCRIPTS / script, *words], capture_output=True, text=True, env={**os.environ, **environment}
    )


def printed(line):
    """The words of each command that a dry run prints."""
    words = line.split(" ")
    words.insert(2 if words[0] == "xpk.sh" else 1, "--dry-run")
    done = run(" ".join(words))
    assert done.returncode == 0, done.stderr
    return [shlex.split(command) for command in done.stdout.splitlines()]


QUEUED = "gcloud compute tpus queued-resources"
AT = "--project=my-project --zone=us-east5-b"
CLOUD = "--scopes=https://www.googleapis.com/auth/cloud-platform"
STATE = f"{QUEUED} describe sora {AT} '--format=value(state.state)'"


@pytest.mark.parametrize(
    ("options", "request_"),
    [
        (
            "--type v5litepod-16",
            f"--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite {CLOUD} --node-id=sora",
        ),
        (
            "--type v6e-16 --spot",
            f"--accelerator-type=v6e-16 --runtime-version=v2-alpha-tpuv6e {CLOUD} --node-id=sora --spot",
        ),
        (
            "--type v5p-256 --slices 2",
            f"--accelerator-type=v5p-256 --runtime-version=v2-alpha-tpuv5 {CLOUD} --node-count=2 --node-prefix=sora",
        ),
    ],
)
def test_create_asks_for_a_queued_resource_and_its_state(options, request_):
    commands = printed(f"create.sh {PLACE} --name sora {options}")
    assert commands == [shlex.split(f"{QUEUED} create sora {AT} {request_}"), shlex.split(STATE)]


def launched(node):
    ssh = f"gcloud compute tpus tpu-vm ssh {node} {AT} --worker=all"
    words = "gs://bucket/runs/dit experiments/train/playground_dit.py --batch-size 64"
    return {
        "copy": shlex.split(
            f"gcloud compute tpus tpu-vm scp /tmp/sora-sora_jax.tar.gz {node}:sora_jax.tar.gz {AT} --worker=all"
        ),
        "install": [
            *shlex.split(ssh),
            "--command=rm -rf sora_jax/sora_jax && mkdir -p sora_jax && tar -xzf sora_jax.tar.gz -C sora_jax"
            f" && bash sora_jax/tpu_scripts/on_worker.sh install {words}",
        ],
        "start": [
            *shlex.split(ssh),
            f"--command=bash sora_jax/tpu_scripts/on_worker.sh start v6e {words}",
        ],
    }


ARCHIVE = shlex.split("git archive --format=tar.gz --output=/tmp/sora-sora_jax.tar.gz HEAD")


def test_launch_installs_on_every_worker_of_every_slice_before_it_starts_one():
    one = launched("sora")
    commands = printed(f"launch.sh {PLACE} --name sora --type v6e-16 {RUN}")
    assert commands == [ARCHIVE, one["copy"], one["install"], one["start"]]
    first, second = launched("sora-0"), launched("sora-1")
    commands = printed(f"launch.sh {PLACE} --name sora --type v6e-16 --slices 2 {RUN}")
    assert commands[1:] == [
        *(first["copy"], first["install"], second["copy"], second["install"]),
        *(first["start"], second["start"]),
    ]


def test_resume_makes_the_same_tpu_anew_and_gives_the_same_command():
    for type_ in ("--type v6e-16", "--type v6e-16 --slices 2"):
        commands = printed(f"resume.sh {PLACE} --name sora {type_} --spot {RUN}")
        assert commands[:2] == [
            shlex.split(STATE),
            shlex.split(f"{QUEUED} delete sora {AT} --force --quiet"),
        ]
        again = printed(f"create.sh {PLACE} --name sora {type_} --spot")
        again += printed(f"launch.sh {PLACE} --name sora {type_} {RUN}")
        assert commands[2:] == again


def test_logs_and_tear_down():
    ssh = f"gcloud compute tpus tpu-vm ssh sora {AT} --worker=3 '--command=tail -n 100 -F sora_jax.log'"
    assert printed(f"logs.sh {PLACE} --name sora --worker 3") == [shlex.split(ssh)]
    for options, node in (("", "sora-0"), (" --slice 1", "sora-1")):
        of_a_slice = ssh.replace("ssh sora", f"ssh {node}")
        line = f"logs.sh {PLACE} --name sora --slices 2{options} --worker 3"
        assert printed(line) == [shlex.split(of_a_slice)]
    delete = f"{QUEUED} delete sora {AT} --force"
    assert printed(f"tear_down.sh {PLACE} --name sora") == [shlex.split(delete)]
    assert printed(f"tear_down.sh {PLACE} --name sora --yes") == [shlex.split(f"{delete} --quiet")]


def test_the_same_through_xpk():
    place = "--project my-project --zone us-central1-c --cluster pods"
    at = "--cluster=pods --project=my-project --zone=us-central1-c"
    assert printed(f"xpk.sh create {place} --type tpu7x-16 --spot --workdir gs://bucket/runs/dit") == [
        shlex.split(f"xpk cluster create {at} --tpu-type=tpu7x-16 --num-slices=1 --spot"),
        shlex.split(
            f"xpk storage attach bucket {at} --type=gcsfuse --bucket=bucket --mount-point=/gcs/bucket "
            "--readonly=false --size=1 --auto-mount=true --mount-options=implicit-dirs"
        ),
    ]
    assert printed(f"xpk.sh launch {place} --name sora --type v5p-16 --slices 2 {RUN}") == [
        [
            *shlex.split(f"xpk workload create {at} --workload=sora --tpu-type=v5p-16 --num-slices=2"),
            *shlex.split("--max-restarts=50 --base-docker-image=python:3.12 --script-dir=."),
            "--command=bash tpu_scripts/on_worker.sh pod v5p gs://bucket/runs/dit "
            "experiments/train/playground_dit.py --batch-size 64",
        ]
    ]
    assert printed(f"xpk.sh logs {place} --name sora") == [
        shlex.split(
            "gcloud container clusters get-credentials pods --project=my-project --location=us-central1"
        ),
        shlex.split(
            "kubectl logs --follow --tail=100 --all-containers --prefix --selector="
            "jobset.sigs.k8s.io/jobset-name=sora,batch.kubernetes.io/job-completion-index=0"
        ),
    ]
    assert printed(f"xpk.sh stop {place} --name sora") == [
        shlex.split(f"xpk workload delete {at} --workload=sora")
    ]
    assert printed(f"xpk.sh tear-down {place}") == [shlex.split(f"xpk cluster delete {at}")]


def test_slurm_runs_one_process_a_gpu():
    line = "srun --kill-on-bad-exit=1 .venv/bin/sora-jax train a.py --steps 9 --workdir /shared/run --distributed"
    assert printed("slurm.sbatch --workdir /shared/run a.py --steps 9") == [shlex.split(line)]


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("create.sh --zone us-east5-b --name sora --type v6e-16", "no --project was given"),
        ("create.sh --project my-project --name sora --type v6e-16", "no --zone was given"),
        (f"create.sh {PLACE} --type v6e-16", "no --name was given"),
        (f"create.sh {PLACE} --name 'my tpu' --type v6e-16", "'my tpu' can't be"),
        (f"create.sh {PLACE} --name 'a;b' --type v6e-16", "'a;b' can't be"),
        (f"create.sh {PLACE} --name sora", "no --type was given"),
        (f"create.sh {PLACE} --name sora --type v6e-7", "has no topology"),
        (f"create.sh {PLACE} --name sora --type v5p-160", "multiple of 128"),
        (f"create.sh {PLACE} --name sora --type h100-8", "is no TPU that these scripts know"),
        (f"create.sh {PLACE} --name sora --type tpu7x-16", "only through GKE"),
        (f"create.sh {PLACE} --name sora --type v6e-16 --slices 0", "is no count"),
        (f"create.sh {PLACE} --name sora --type", "--type has no value"),
        (f"create.sh {PLACE} --name sora --preemptible", "there is no option '--preemptible'"),
        (f"create.sh --project 'my project' {PLACE[20:]} --name sora --type v6e-16", "is no project ID"),
        (f"launch.sh {PLACE} --name sora --type v6e-16 -- a.py", "no --workdir was given"),
        (f"launch.sh {PLACE} --name sora --type v6e-16 --workdir 'gs://b/a b' -- a.py", "can't be"),
        (f"launch.sh {PLACE} --name sora --type v6e-16 --workdir /runs", "no experiment was given"),
        (f"launch.sh {PLACE} --name sora --type v6e-16 --workdir /runs -- none.py", "there is no experiment"),
        (f"resume.sh {PLACE} --name sora --type tpu7x-16 {RUN}", "XPK restarts a run by itself"),
        (f"logs.sh {PLACE} --name sora --worker all", "is no number"),
        (f"logs.sh {PLACE} --name sora --slices 0", "is no count"),
        (f"logs.sh {PLACE} --name sora --slice 1", "is none of 1"),
        (f"logs.sh {PLACE} --name sora --slices 2 --slice 2", "is none of 2"),
        (f"xpk.sh delete {PLACE}", "there is no action 'delete'"),
        (f"xpk.sh launch {PLACE} --cluster pods --name sora --type v6e-16 --spot", "no option '--spot'"),
        ("xla_flags.sh v4", "no TPU generation 'v4'"),
        ("slurm.sbatch a.py", "no --workdir was given"),
        ("slurm.sbatch --workdir runs/dit a.py", "give an absolute path"),
    ],
)
def test_what_can_t_be_is_one_sentence_and_exit_2(line, says):
    done = run(line, PATH="/usr/bin:/bin")
    assert done.returncode == 2
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not done.stdout


@pytest.mark.parametrize("generation", ["v5e", "v5p", "v6e", "tpu7x"])
def test_flags_are_one_line_that_libtpu_reads(generation):
    flags = run(f"xla_flags.sh {generation}").stdout.split()
    assert len(flags) > 5
    assert len({flag.split("=")[0] for flag in flags}) == len(flags)
    assert all(flag.startswith("--xla_") and "=" in flag for flag in flags)


SECRET = "hunter2"


@pytest.mark.parametrize(
    "words",
    [
        *(
            f"{RUN} HF_TOKEN={SECRET}",
            f"{RUN} WANDB_API_KEY={SECRET}",
            f"{RUN} AWS_SECRET_ACCESS_KEY={SECRET}",
        ),
        *(f"{RUN} --hub.token {SECRET}", f"{RUN} --api-key={SECRET}", f"{RUN} --Password {SECRET}"),
        *(f"--workdir /runs -- token={SECRET} a.py", f"--token={SECRET} {RUN}"),
    ],
)
@pytest.mark.parametrize("script", ["launch.sh", "resume.sh", "xpk.sh launch --cluster pods"])
def test_a_secret_among_the_words_is_refused_and_not_written(script, words):
    for dry_run in ("", " --dry-run"):
        done = run(f"{script}{dry_run} {PLACE} --name sora --type v6e-16 {words}", PATH="/usr/bin:/bin")
        assert done.returncode == 2
        assert "looks like a secret" in done.stderr
        assert SECRET not in done.stdout + done.stderr


def test_no_secret_of_the_environment_is_written_or_sent(tmp_path):
    tools = stand_in(tmp_path / "bin", "gcloud", f'echo "$*" >> "{tmp_path}/calls"; echo ACTIVE')
    for tool in ("git", "xpk", "kubectl"):
        stand_in(tools, tool, f'echo "$*" >> "{tmp_path}/calls"')
    secrets = dict.fromkeys(("HF_TOKEN", "WANDB_API_KEY", "GOOGLE_PASSWORD"), SECRET)
    of = f"{PLACE} --name sora"
    for line in (
        *(
            f"create.sh {of} --type v6e-16",
            f"launch.sh {of} --type v6e-16 --slices 2 {RUN} --caption-tokens 8",
        ),
        *(f"logs.sh {of}", f"tear_down.sh {of} --yes", f"xpk.sh logs {of} --cluster pods"),
        f"xpk.sh launch {of} --cluster pods --type v6e-16 {RUN} --keep-every 5",
    ):
        done = run(line, PATH=f"{tools}:{os.environ['PATH']}", **secrets)
        assert done.returncode == 0, done.stderr
        assert SECRET not in done.stdout + done.stderr
    calls = (tmp_path / "calls").read_text()
    assert "--caption-tokens 8" in calls
    assert "--keep-every 5" in calls
    assert SECRET not in calls


def stand_in(folder, name, script):
    folder.mkdir(exist_ok=True, parents=True)
    file = folder / name
    file.write_text(f"#!/usr/bin/env bash\n{script}\n")
    file.chmod(0o755)
    return folder


def test_create_waits_until_the_tpu_is_there_and_tells_when_it_never_will_be(tmp_path):
    answer = 'echo "$*" >> calls; [[ $3 == queued-resources && $4 == describe ]] && cat "$STATE_FILE"; true'
    tools = stand_in(tmp_path / "bin", "gcloud", f'cd "{tmp_path}"; {answer}')
    state = tmp_path / "state"
    line = f"create.sh {PLACE} --name sora --type v6e-8"
    path = f"{tools}:{os.environ['PATH']}"
    state.write_text("ACTIVE\n")
    assert run(line, PATH=path, STATE_FILE=str(state)).returncode == 0
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[3] for call in calls] == ["create", "describe"]
    state.write_text("FAILED\n")
    done = run(line, PATH=path, STATE_FILE=str(state))
    assert done.returncode == 1
    assert "sora is FAILED" in done.stderr


def test_a_worker_starts_one_run_with_the_buckets_as_folders(tmp_path):
    repository, home = tmp_path / "sora_jax", tmp_path / "home"
    home.mkdir()
    (repository / "tpu_scripts").mkdir(parents=True)
    (repository / "sora_jax" / "parallel").mkdir(parents=True)
    for name in ("tpu_scripts/on_worker.sh", "tpu_scripts/xla_flags.sh", "sora_jax/parallel/xla_flags.py"):
        (repository / name).write_text((SCRIPTS.parent / name).read_text())
    stand_in(repository / ".venv" / "bin", "sora-jax", 'echo "$LIBTPU_INIT_ARGS"; echo "$@"; sleep 30')
    tools = stand_in(tmp_path / "bin", "mountpoint", "exit 0")
    environment = {**os.environ, "HOME": str(home), "PATH": f"{tools}:{os.environ['PATH']}"}
    words = "start v6e gs://bucket/runs/dit a.py --vae gs://other/vae --data.path=gs://other/d --steps 9"
    command = ["bash", repository / "tpu_scripts" / "on_worker.sh", *words.split()]
    subprocess.run(command, env=environment, check=True)
    log = home / "sora_jax.log"
    while len(log.read_text().splitlines() if log.exists() else []) < 2:
        time.sleep(0.02)
    flags, arguments = log.read_text().splitlines()
    assert flags == run("xla_flags.sh v6e").stdout.strip()
    fields = "--vae /gcs/other/vae --data.path=/gcs/other/d --steps 9"
    assert arguments == f"train a.py {fields} --workdir /gcs/bucket/runs/dit --distributed"
    second = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert second.returncode == 1
    assert "a run is going on here" in second.stderr
    pid = int((home / "sora_jax.pid").read_text())
    os.killpg(pid, 15)
