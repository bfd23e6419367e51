"""What the commands that edit clips have in common: settings, the model, the file that is written."""

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

if TYPE_CHECKING:
    from sora_jax.media import Clip
    from sora_jax.studio.expand import Chat
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["MODELS_OWN", "UNSET", "Edit", "Settings", "edit", "moment", "reserve", "source", "write"]

MODELS_OWN = tyro.conf.arg(help_behavior_hint="(default: the model's)")
UNSET = tyro.conf.arg(help_behavior_hint="(optional)")
REPEATABLE = tyro.conf.arg(help_behavior_hint="(repeatable)")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings of every command that makes clips; what isn't given is the model's default."""

    out: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: named after the prompt)")] = None
    """The file: .mp4, .webm, .gif, .webp or .png (a picture or a sheet)."""
    seed: int = 0
    """The noise to start from; the same seed gives the same clip."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps; more are slower and truer."""
    guidance: Annotated[float | None, MODELS_OWN] = None
    """How strongly the words steer; 1 is no guidance."""
    guidance_2: Annotated[float | None, UNSET] = None
    """That of the expert of low noise, where the model has two."""
    history: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: the edit's)")] = None
    """The noise level at which guidance's negative sees known frames: 0 as they are, 1 steers by them, too."""
    negative: Annotated[str | None, MODELS_OWN] = None
    """What to steer away from."""
    sampler: Annotated[str | None, MODELS_OWN] = None
    """unipc, dpmpp, heun, euler or ancestral."""
    cache: Annotated[str | None, UNSET] = None
    """Leave out steps whose velocity changes by less than this, as in 0.1: faster, and a little less true."""
    size: Annotated[str | None, tyro.conf.arg(help_behavior_hint="(default: the clip's, or near it)")] = None
    """WIDTHxHEIGHT in pixels."""
    fps: Annotated[float | None, tyro.conf.arg(help_behavior_hint="(default: the clip's)")] = None
    """Frames a second."""
    preset: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, REPEATABLE] = ()
    """A camera, light or style to add, for instance zoom-in, darkening or night."""
    expand: bool = False
    """Make a short prompt long first, by the playground's grammar or a chat endpoint; the result is shown."""
    chat: Annotated[str | None, UNSET] = None
    """An endpoint with OpenAI's protocol that expands the prompt, as in http://localhost:8000/v1; its key is
    $OPENAI_API_KEY."""
    chat_model: str = "default"
    """The model's name there."""
    model: str = "playground"
    """A model's name, a folder of weights, or a repository of the hub as in Wan-AI/Wan2.1-T2V-1.3B-Diffusers."""
    lora: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, REPEATABLE] = ()
    """A LoRA to add, as FILE or FILE:WEIGHT (a .safetensors file of PEFT, diffusers or a training run of ours)."""
    lora_2: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, REPEATABLE] = ()
    """As --lora, for the second expert (that of low noise) of a model that has two."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the large matrices and their products; half precision takes half the memory."""
    quantize: Annotated[Literal["int8", "fp8"] | None, UNSET] = None
    """Keep the blocks' weights in 8 bits; needs pip install 'sora_jax[quantize]'."""
    shards: int = 1
    """Devices that the weights are cut over."""

    def settings(self) -> dict[str, Any]:
        """What every edit takes of them."""
        names = ("seed", "steps", "guidance", "guidance_2", "history", "negative", "sampler", "cache")
        given = {name: getattr(self, name) for name in (*names, "size", "fps")}
        return {
            **given,
            "presets": self.preset,
            "expand": self._expand if self.expand or self.chat else False,
        }

    def _expand(self, prompt: str) -> str:
        from sora_jax.studio.expand import expand_with

        longer = expand_with(self.endpoint(), self.seed)(prompt)
        print(f"prompt: {longer}", file=sys.stderr)
        return longer

    def endpoint(self) -> "Chat | None":
        """The chat endpoint, where one is given."""
        from sora_jax.studio.expand import Chat

        if self.chat is None:
            return None
        return Chat(url=self.chat, model=self.chat_model, key=os.environ.get("OPENAI_API_KEY", ""))

    def load(self) -> "Pipeline":
        """The model that they name."""
        from sora_jax.parallel.mesh import mesh_of
        from sora_jax.studio.pipeline import load

        return load(
            self.model,
            lora=self.lora,
            lora_2=self.lora_2,
            mesh=mesh_of(self.shards),
            dtype=self.dtype,
            quantize=self.quantize,
        )


@dataclass(frozen=True, kw_only=True)
class Edit(Settings):
    """Settings of a command that makes one clip, or variations of it."""

    variations: int = 1
    """How many to make, each with a seed one higher; their files end in -1, -2, ..., their sheet in -sheet.png."""


def reserve(out: Path | None, words: str, variations: int = 1) -> list[Path]:
    """The files to write, and the sheet's after several: of `out`, or named after the words and not there yet.

    Checked before any work.
    """
    from sora_jax.media import check_output
    from sora_jax.studio.prompts import file_stem

    def files(first: Path) -> list[Path]:
        if variations == 1:
            return [first]
        clips = [first.with_name(f"{first.stem}-{i}{first.suffix}") for i in range(1, variations + 1)]
        return [*clips, first.with_name(f"{first.stem}-sheet.png")]

    first = out or Path(file_stem(words) + ".mp4")
    found, number = files(first), 2
    while out is None and any(path.exists() for path in found):
        found, number = files(first.with_name(f"{first.stem}-{number}{first.suffix}")), number + 1
    return [check_output(path) for path in found]


def source(path: Path) -> Path:
    """The file of a clip, which is one. Checked before any work; an edit reads no more of it than it needs."""
    from sora_jax.media import read_metadata

    read_metadata(path)
    return path


def write(clips: "Sequence[Clip]", words: str, paths: Sequence[Path]) -> None:
    """Writes the clips, and a sheet of them where `paths` has one more; prints the path of each."""
    import numpy as np

    from sora_jax.media import Clip, contact_sheet

    for clip, path in zip(clips, paths, strict=False):
        print(clip.save(path))
    for path in paths[len(clips) :]:
        seeds = [clip.metadata["seed"] for clip in clips]
        sheet = contact_sheet(clips, [f"{words}  (seed {seed})" for seed in seeds])
        about = {"prompt": words, "seeds": seeds}
        print(Clip.from_uint8(np.asarray(sheet)[None], 1.0, about).save(path))
    sys.stdout.flush()


def edit(
    args: Edit,
    words: str,
    make: "Callable[[Pipeline, dict[str, Any]], Clip]",
    about: dict[str, Any] | None = None,
) -> int:
    """Loads the model, makes and writes; prints the paths. `words` name the file, `about` is added to the metadata."""
    from sora_jax.studio.progress import bar
    from sora_jax.studio.request import check_request

    check_request(variations=args.variations, steps=args.steps, guidance=args.guidance, seed=args.seed)
    paths = reserve(args.out, words, args.variations)
    pipeline, settings = args.load(), args.settings()
    if args.variations > 1:
        settings["variations"] = args.variations
    with bar() as report:
        made: Any = make(pipeline, {**settings, "progress": report})
    clips = made if isinstance(made, list) else [made]
    for clip in clips:
        clip.metadata.update(about or {})
    write(clips, words, paths)
    return 0


def moment(text: str) -> tuple[float, ...]:
    """START-END, or START-END@AT, in seconds."""
    span, _, at = text.partition("@")
    try:
        start, end = (float(part) for part in span.split("-"))
        return (start, end, float(at)) if at else (start, end)
    except ValueError:
        raise ValueError(f"{text!r} isn't a span of seconds: write it like 0.5-2, or 0.5-2@1.") from None
