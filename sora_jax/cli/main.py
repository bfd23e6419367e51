"""`sora-jax COMMAND ...`: finds the command, and turns what goes wrong into one line and an exit code.

Exit codes: 0 done, 1 something failed, 2 the command was not used right, 130 interrupted.
"""

import importlib
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

__all__ = ["main"]


class Command(NamedTuple):
    summary: str
    example: str


COMMANDS = {
    "generate": Command(
        "Make a video from words.", 'sora-jax generate "a red circle moves right" --out clip.mp4'
    ),
    "animate": Command("Make a picture move.", 'sora-jax animate heart.png "a red heart grows"'),
    "extend": Command(
        "Make a clip longer, after its end or before its start.",
        'sora-jax extend clip.mp4 "a red circle moves right" --seconds 4',
    ),
    "connect": Command(
        "Lead from one clip or picture to another.",
        'sora-jax connect first.mp4 second.mp4 "a red circle grows"',
    ),
    "loop": Command(
        "Make a clip that ends where it begins.",
        'sora-jax loop "a yellow ring circles around" --out ring.gif',
    ),
    "blend": Command("Let one clip flow into another.", "sora-jax blend first.mp4 second.mp4"),
    "remix": Command(
        "Make a clip anew under another prompt.", 'sora-jax remix clip.mp4 "a blue circle moves right"'
    ),
    "recut": Command(
        "Keep moments of a clip and make the rest anew.",
        'sora-jax recut clip.mp4 "a red circle bounces" --keep 0.5-1.25@1 --seconds 4',
    ),
    "inpaint": Command(
        "Make a part of a clip anew, or what lies around it.",
        'sora-jax inpaint clip.mp4 "a blue star spins" --mask mask.png',
    ),
    "storyboard": Command(
        "Make a clip from cards on a timeline.", "sora-jax storyboard story.json --seconds 6"
    ),
    "stream": Command(
        "Make frames as they are ready, without an end.", 'sora-jax stream "a red circle circles around"'
    ),
    "sample": Command(
        "Run a sampling experiment: a file of prompts and settings.",
        "sora-jax sample experiments/sample/playground_gallery.py --out gallery",
    ),
    "train": Command(
        "Train a network, or go on with a run that stopped.",
        "sora-jax train experiments/train/playground_dit.py --workdir runs/dit",
    ),
    "dataset": Command(
        "Make labelled clips in bulk.", "sora-jax dataset prompts.jsonl --count 1000 --out made"
    ),
    "data": Command(
        "Turn a folder of clips and captions into a dataset.",
        "sora-jax data folder clips --out datasets/clips",
    ),
    "convert": Command(
        "Write a checkpoint in another layout.",
        "sora-jax convert runs/dit/weights exported --format diffusers",
    ),
    "plan": Command(
        "Say what an experiment needs and costs on TPUs, without them.",
        "sora-jax plan experiments/train/wan2_1_14b_720p.py --topology v5p:4x4x4",
    ),
    "eval": Command("Measure how well a model follows prompts.", "sora-jax eval playground --count 200"),
    "parity": Command(
        "Compare a published checkpoint with diffusers, network by network.",
        "sora-jax parity Wan2.1-T2V-1.3B-Diffusers",
    ),
    "bench": Command(
        "Time training, sampling, data and operations on this machine, and compare.",
        "sora-jax bench train --model 100m --out train.json",
    ),
}


def _help() -> str:
    width = max(map(len, COMMANDS))
    lines = ["sora-jax: an open Sora in JAX. Text to video, from a laptop to a pod.", ""]
    lines += ["usage: sora-jax COMMAND [options]", "", "commands:"]
    for name, command in COMMANDS.items():
        lines += [f"  {name:{width}}  {command.summary}", f"  {'':{width}}  $ {command.example}"]
    lines += ["", "`sora-jax COMMAND --help` lists a command's options; `sora-jax --version` the version."]
    return "\n".join(lines)


def _prepare() -> None:
    """Settings that JAX reads when it is imported: compiled programs are kept, so the next start is quick."""
    from platformdirs import user_cache_dir

    cache = os.environ.get("SORA_JAX_CACHE") or user_cache_dir("sora_jax", appauthor=False)
    folder = Path(cache).expanduser() / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        _say(
            f"note: compiled programs can't be kept in {folder} ({error.strerror}), so each start compiles anew."
        )
    else:
        os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(folder))
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    # A cached program names all the machine's features that it may use, and the loader logs each at length.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def _on_huge_pages() -> None:
    """Starts this process again with glibc's large blocks on huge pages, where Linux hasn't been told so yet.

    XLA's CPU backend asks for its working memory anew each step, and touching it in 4 KiB pages is a quarter of the
    time of a step of the playground's denoiser.
    """
    import platform

    told = os.environ.get("GLIBC_TUNABLES", "")
    if sys.platform != "linux" or platform.libc_ver()[0] != "glibc" or "glibc.malloc.hugetlb" in told:
        return
    os.environ["GLIBC_TUNABLES"] = ":".join(part for part in (told, "glibc.malloc.hugetlb=1") if part)
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _without_ynnpack() -> None:
    """Has XLA's CPU backend do without YNNPACK, the default of these releases, unless it was told what to take from it.

    Eigen's large products, and convolutions of the published VAE's widths, are up to 1.3 times as fast, and YNNPACK's
    sums are wrong in some gradients (docs/bench.md). Only YNNPACK multiplies in bfloat16 with AMX, though. XLA ends the
    process for a flag that it doesn't know, so other releases are left alone.
    """
    from importlib.metadata import version

    flags = os.environ.get("XLA_FLAGS", "")
    rounded = os.environ.get("JAX_DEFAULT_MATMUL_PRECISION") == "bfloat16"
    if not rounded and version("jaxlib").startswith("0.10.") and "_ynn_" not in flags:
        os.environ["XLA_FLAGS"] = f"{flags} --xla_cpu_experimental_ynn_fusion_type=".strip()


def _parse(module: Any, name: str, arguments: Sequence[str]) -> Any:
    import tyro

    # The module's docstring holds the examples, so its line breaks are kept.
    return tyro.cli(
        module.Args,
        prog=f"sora-jax {name}",
        description=module.__doc__,
        args=list(arguments),
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
    )


def _command(name: str) -> Callable[[Sequence[str]], int]:
    """What runs the command: its `main(arguments)`, or its `run(args)` on the options it declares."""
    module = importlib.import_module(f"sora_jax.cli.{name}")
    own = getattr(module, "main", None)
    return own if own is not None else lambda arguments: module.run(_parse(module, name, arguments))


def _say(text: object) -> None:
    line = " ".join(str(text).split())
    print(f"sora-jax: {line}", file=sys.stderr)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if category.__module__.startswith("sora_jax"):
        _say(f"note: {message}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command line and returns its exit code."""
    own_process = arguments is None
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    name, rest = (arguments[0], arguments[1:]) if arguments else ("", [])
    if name in ("-h", "--help", "help", ""):
        print(_help(), file=sys.stdout if name else sys.stderr)
        return 0 if name else 2
    if name == "--version":
        from importlib.metadata import version

        print(f"sora-jax {version('sora_jax')}")
        return 0
    if name not in COMMANDS:
        from difflib import get_close_matches

        near = get_close_matches(name, COMMANDS, 1)
        mend = f"did you mean {near[0]}?" if near else f"choose one of {', '.join(COMMANDS)}."
        _say(f"there is no command {name!r}: {mend}")
        return 2
    if own_process and name in ("train", "bench"):
        _on_huge_pages()
    if own_process:
        _without_ynnpack()
    _prepare()
    if name == "bench":
        # What compiling takes is measured too.
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    with warnings.catch_warnings():
        warnings.showwarning = _show_warning
        try:
            return _command(name)(rest) or 0
        except ValueError as error:
            if os.environ.get("SORA_JAX_TRACEBACK"):
                raise
            _say(error)
            return 2
        except BrokenPipeError:
            # The reader went away, as `| head` does; the rest of the output has no place to go.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 1
        except OSError as error:
            if os.environ.get("SORA_JAX_TRACEBACK"):
                raise
            _say(error)
            misuse = FileExistsError | FileNotFoundError | IsADirectoryError | PermissionError
            return 2 if isinstance(error, misuse) else 1
        except MemoryError:
            _say("there is not enough memory: ask for a smaller or shorter clip, or fewer variations.")
            return 1
        except KeyboardInterrupt:
            _say("interrupted")
            return 130


if __name__ == "__main__":
    sys.exit(main())
