"""The front door: help, dispatch, and what is imported on the way in."""

import os
import platform
import subprocess
import sys

import pytest

from sora_jax.cli.main import COMMANDS, main


def test_help_has_an_example_of_every_command(capsys):
    assert main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, command in COMMANDS.items():
        assert command.summary in text
        assert f"$ sora-jax {name} " in text


@pytest.mark.parametrize("command", COMMANDS)
def test_each_commands_help_has_an_example(command, work, capsys):
    try:
        code = main([command, "--help"])
    except SystemExit as stop:  # the parser leaves by itself
        code = stop.code
    assert code == 0
    assert f"sora-jax {command} " in " ".join(capsys.readouterr().out.split())


def test_no_command_shows_the_help_as_an_error(capsys):
    assert main([]) == 2
    assert "commands:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["generate"], ["generate", "a", "--stepz", "3"], ["eval", "everything"]]
)
def test_wrong_options_exit_with_2(arguments, work, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert capsys.readouterr().err


def test_version(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("sora-jax ")


def test_generating_imports_nothing_that_only_training_needs():
    program = (
        "import sys, sora_jax.cli.generate, sora_jax.studio.pipeline\n"
        "heavy = {'tensorflow', 'tensorflow_datasets', 'orbax', 'grain', 'matplotlib', 'torch', 'optax', 'pandas'}\n"
        "print(*heavy & {name.split('.')[0] for name in sys.modules})"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == ""


def test_help_does_not_wait_for_jax():
    program = "import sys; from sora_jax.cli.main import main; main(['--help']); print('jax' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split()[-1] == "False"


def test_a_cache_folder_that_cannot_be_made_is_only_a_note(tmp_path, work, monkeypatch, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SORA_JAX_CACHE", str(tmp_path / "file" / "cache"))
    assert main(["generate", "", "--out", "clip.mp4"]) == 2
    note, error = capsys.readouterr().err.splitlines()
    assert note.startswith("sora-jax: note: compiled programs can't be kept in")
    assert "empty" in error


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
@pytest.mark.parametrize(("told", "seen"), [("", "glibc.malloc.hugetlb=1"), ("glibc.malloc.hugetlb=0", None)])
def test_training_starts_on_huge_pages_unless_told(tmp_path, told, seen):
    file = tmp_path / "experiment.py"
    file.write_text("import os\nprint(os.environ['GLIBC_TUNABLES'])\n")
    command = [
        sys.executable,
        "-m",
        "sora_jax.cli.main",
        "train",
        str(file),
        "--workdir",
        str(tmp_path / "run"),
    ]
    environment = {**os.environ, "GLIBC_TUNABLES": told, "SORA_JAX_CACHE": str(tmp_path / "cache")}
    found = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert found.stdout.strip() == (seen or told)
    assert "names no training run" in found.stderr
