"""Makes a video from words.

sora-jax generate "a red circle moves right" --out clip.mp4 --seed 0

sora-jax generate "a blue star spins" --variations 4 --aspect 16:9 --out star.gif

sora-jax generate "the cat turns its head" --image cat.png --model Wan-AI/Wan2.2-TI2V-5B-Diffusers --dtype bfloat16
"""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sora_jax.cli.edit import MODELS_OWN, UNSET, reserve

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax generate`; what isn't given is the model's default."""

    prompt: tyro.conf.Positional[str]
    """What to show, for instance "a red circle moves right"."""
    out: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(default: named after the prompt)")] = None
    """The file: .mp4, .webm, .gif, .webp or .png (a picture or a sheet). Variations get -1, -2, ... in their names."""
    seed: int = 0
    """The noise to start from; the same seed gives the same clip. Variation i has seed + i."""
    variations: int = 1
    """How many clips of the prompt to make, as one batch."""
    seconds: Annotated[float | None, MODELS_OWN] = None
    """How long."""
    frames: Annotated[int | None, UNSET] = None
    """How long, in frames, in place of seconds; 1 makes a picture."""
    fps: Annotated[float | None, MODELS_OWN] = None
    """Frames a second."""
    size: Annotated[str | None, MODELS_OWN] = None
    """WIDTHxHEIGHT in pixels, as in 64x64."""
    aspect: Annotated[str | None, UNSET] = None
    """WIDTH:HEIGHT, as in 16:9, with about as many pixels as the model's default; in place of size."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps; more are slower and truer."""
    guidance: Annotated[float | None, MODELS_OWN] = None
    """How strongly the words steer; 1 is no guidance."""
    guidance_2: Annotated[float | None, UNSET] = None
    """That of the expert of low noise, where the model has two."""
    negative: Annotated[str | None, MODELS_OWN] = None
    """What to steer away from."""
    sampler: Annotated[str | None, MODELS_OWN] = None
    """unipc, dpmpp, heun, euler or ancestral."""
    cache: Annotated[str | None, UNSET] = None
    """Leave out steps whose velocity changes by less than this, as in 0.1: faster, and a little less true."""
    image: Annotated[Path | None, UNSET] = None
    """A picture that the clip starts with; without size and aspect the clip has its shape."""
    last_image: Annotated[Path | None, UNSET] = None
    """A picture that it ends with, where the model takes one."""
    preset: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
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
    lora: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """A LoRA to add, as FILE or FILE:WEIGHT (a .safetensors file of PEFT, diffusers or a training run of ours)."""
    lora_2: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """As --lora, for the second expert (that of low noise) of a model that has two."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of the large matrices and their products; half precision takes half the memory."""
    quantize: Annotated[Literal["int8", "fp8"] | None, UNSET] = None
    """Keep the blocks' weights in 8 bits; needs pip install 'sora_jax[quantize]'."""
    shards: int = 1
    """Devices that the weights are cut over."""


def _outputs(args: Args) -> list[Path]:
    from sora_jax.media import check_output

    if args.variations < 1:
        raise ValueError(f"variations is {args.variations} and must be at least 1.")
    first = reserve(args.out, args.prompt)
    if args.variations == 1:
        return [first]
    numbers = range(1, args.variations + 1)
    return [check_output(first.with_name(f"{first.stem}-{i}{first.suffix}")) for i in numbers]


def _chat(args: Args) -> Any:
    from sora_jax.studio.expand import Chat

    if args.chat is None:
        return None
    return Chat(url=args.chat, model=args.chat_model, key=os.environ.get("OPENAI_API_KEY", ""))


def run(args: Args) -> int:
    """Generates and writes; prints the path of each file."""
    from sora_jax.studio.request import check_request

    check_request(variations=args.variations, steps=args.steps, guidance=args.guidance, seed=args.seed)
    outputs = _outputs(args)
    from sora_jax.models.tokenizer import check_prompt

    check_prompt(args.prompt)
    from sora_jax.parallel.mesh import mesh_of
    from sora_jax.studio.expand import expand_with
    from sora_jax.studio.image import pixels_of
    from sora_jax.studio.pipeline import load
    from sora_jax.studio.presets import with_presets
    from sora_jax.studio.progress import bar

    # Read before the model is: a wrong name shows at once.
    image, last = (None if path is None else pixels_of(path) for path in (args.image, args.last_image))
    pipeline = load(
        args.model,
        lora=args.lora,
        lora_2=args.lora_2,
        mesh=mesh_of(args.shards),
        dtype=args.dtype,
        quantize=args.quantize,
    )
    expanded = None
    if args.expand or args.chat is not None:
        # Once, and shown before the wait.
        expanded = expand_with(_chat(args), args.seed)(with_presets(args.prompt, args.preset))
        print(f"prompt: {expanded}", file=sys.stderr)
    with bar() as report:
        clips = pipeline.generate(
            [args.prompt],
            seed=args.seed,
            variations=args.variations,
            seconds=args.seconds,
            frames=args.frames,
            fps=args.fps,
            size=args.size,
            aspect=args.aspect,
            steps=args.steps,
            guidance=args.guidance,
            guidance_2=args.guidance_2,
            negative=args.negative,
            sampler=args.sampler,
            image=image,
            last_image=last,
            cache=args.cache,
            presets=args.preset,
            expand=False if expanded is None else lambda prompt: expanded,
            progress=report,
        )
    for clip, path in zip(clips, outputs, strict=True):
        print(clip.save(path))
    sys.stdout.flush()
    return 0
