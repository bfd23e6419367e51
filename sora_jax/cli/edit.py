"""What the commands that edit clips have in common: settings, the model, the file that is written."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from sora_jax.media import Clip
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["MODELS_OWN", "UNSET", "Edit", "edit", "moment", "reserve", "source"]

MODELS_OWN = tyro.conf.arg(help_behavior_hint="(default: the model's)")
UNSET = tyro.conf.arg(help_behavior_hint="(optional)")


@dataclass(frozen=True, kw_only=True)
class Edit:
    """Settings of every edit; what isn't given is the model's default."""

    out: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: named after the prompt)")] = None
    """The file: .mp4, .webm, .gif, .webp or .png."""
    seed: int = 0
    """The noise to start from; the same seed gives the same clip."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    guidance: Annotated[float | None, MODELS_OWN] = None
    """How strongly the words steer."""
    negative: Annotated[str | None, MODELS_OWN] = None
    """What to steer away from."""
    sampler: Annotated[str | None, MODELS_OWN] = None
    """unipc, dpmpp, heun, euler or ancestral."""
    size: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: the clip's, or near it)")] = None
    """WIDTHxHEIGHT in pixels."""
    fps: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: the clip's)")] = None
    """Frames a second."""
    model: str = "playground"
    """A model's name, a folder of weights, or a repository of the hub."""
    lora: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """A LoRA to add, as FILE or FILE:WEIGHT."""
    lora_2: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """As --lora, for the second expert (that of low noise) of a model that has two."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the large matrices and their products."""

    def settings(self) -> dict[str, Any]:
        names = ("seed", "steps", "guidance", "negative", "sampler", "size", "fps")
        return {name: getattr(self, name) for name in names}


def reserve(out: Path | None, words: str) -> Path:
    """The file to write: `out`, or one named after the words that isn't there yet. Checked before any work."""
    from sora_jax.media import check_output
    from sora_jax.studio.prompts import file_stem

    first = out or Path(file_stem(words) + ".mp4")
    found, number = first, 2
    while out is None and found.exists():
        found, number = first.with_name(f"{first.stem}-{number}{first.suffix}"), number + 1
    return check_output(found)


def source(path: Path) -> Path:
    """The file of a clip, which is one. Checked before any work; an edit reads no more of it than it needs."""
    from sora_jax.media import read_metadata

    read_metadata(path)
    return path


@contextlib.contextmanager
def _loaded(args: Edit) -> "Iterator[tuple[Pipeline, Any]]":
    from sora_jax.studio.pipeline import load
    from sora_jax.studio.progress import bar

    pipeline = load(args.model, lora=args.lora, lora_2=args.lora_2, dtype=args.dtype)
    with bar() as report:
        yield pipeline, report


def edit(args: Edit, words: str, make: "Callable[[Pipeline, dict[str, Any]], Clip]") -> int:
    """Loads the model, makes the clip and writes it; prints its path. `words` name the file."""
    from sora_jax.studio.request import check_request

    check_request(steps=args.steps, guidance=args.guidance, seed=args.seed)
    path = reserve(args.out, words)
    with _loaded(args) as (pipeline, report):
        clip = make(pipeline, {**args.settings(), "progress": report})
    print(clip.save(path))
    sys.stdout.flush()
    return 0


def moment(text: str) -> tuple[float, ...]:
    """START-END, or START-END@AT, in seconds."""
    span, _, at = text.partition("@")
    try:
        start, end = (float(part) for part in span.split("-"))
        return (start, end, float(at)) if at else (start, end)
    except ValueError:
        raise ValueError(f"{text!r} isn't a span of seconds: write it like 0.5-2, or 0.5-2@1.") from None
