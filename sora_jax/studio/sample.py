"""A sampling experiment: prompts, a model and settings in one value, run into a folder of clips and one sheet."""

import dataclasses
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from sora_jax.media import Clip, check_output, contact_sheet
from sora_jax.parallel.context import Method
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.progress import Report
from sora_jax.studio.prompts import file_stem

__all__ = ["Sample", "Script", "read_sample", "run_sample", "run_script"]

DEVICES = ("shards", "context", "attention")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sample:
    """What to sample. What is None is the model's default; see `Pipeline.generate`."""

    prompts: tuple[str, ...]
    model: str = "playground"
    """A model's name, a folder of weights, or a repository of the hub."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the weights' matrices and their products."""
    shards: int = 1
    """Devices that the weights are cut over."""
    context: int = 1
    """Devices that a clip's tokens are cut over, each with its shard of the weights."""
    attention: Method = "ulysses_ring"
    """How tokens on different ones of those meet; the answer is the same."""
    seed: int = 0
    """Clip i has seed + i."""
    variations: int = 1
    """Clips of each prompt."""
    seconds: float | None = None
    fps: float | None = None
    size: str | None = None
    """WIDTHxHEIGHT in pixels."""
    aspect: str | None = None
    steps: int | None = None
    guidance: float | None = None
    guidance_2: float | None = None
    """Of the expert of low noise, where there are two."""
    negative: str | None = None
    sampler: str | None = None
    image: str | None = None
    """The file that every clip starts with."""
    last_image: str | None = None
    cache: str | None = None
    """Leave out steps whose velocity changes by less than this, as in 0.1."""
    batch: int = 16
    """Clips made at once."""
    ending: str = "mp4"
    """mp4, webm, gif, webp or png."""

    def __post_init__(self):
        if not self.prompts:
            raise ValueError("the experiment has no prompts: give at least one.")
        if self.batch < 1 or self.variations < 1:
            raise ValueError(
                f"batch is {self.batch} and variations {self.variations}: both must be at least 1."
            )

    def sizes(self) -> dict[str, Any]:
        """The fields that `studio.request.resolve` takes."""
        names = ("seconds", "fps", "size", "aspect", "steps", "guidance", "guidance_2", "negative", "sampler")
        return {name: getattr(self, name) for name in names}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Script:
    """Edits in place of prompts: `make(pipeline, seed)` gives clips by their names."""

    make: Callable[[Pipeline, int], dict[str, Clip]]
    model: str = "playground"
    dtype: Literal["float32", "bfloat16"] = "float32"
    seed: int = 0
    ending: str = "mp4"
    """mp4, webm, gif, webp or png."""


def run_script(script: Script, pipeline: Pipeline, folder: Path) -> list[Path]:
    """Makes the script's clips and a sheet of them in `folder`, and gives their paths, the sheet's last."""
    check_output(folder / f"clip.{script.ending}")
    clips = script.make(pipeline, script.seed)
    paths = [clip.save(folder / f"{name}.{script.ending}") for name, clip in clips.items()]
    contact_sheet(list(clips.values()), list(clips), path=folder / "sheet.png")
    return [*paths, folder / "sheet.png"]


def _options(sample: Sample) -> dict[str, Any]:
    own = (*("prompts", "model", "dtype", "seed", "variations", "batch", "ending"), *DEVICES)
    values = {field.name: getattr(sample, field.name) for field in dataclasses.fields(sample)}
    return {name: value for name, value in values.items() if name not in own}


def read_sample(path: Path) -> tuple[Sample | Script, str]:
    """The SAMPLE and the docstring of a Python file. Raises FileNotFoundError, or ValueError for a file without one."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no experiment {path}: give a Python file that sets SAMPLE.")
    if path.suffix != ".py":
        raise ValueError(f"{path} is no Python file: give one that sets SAMPLE.")
    try:
        names = runpy.run_path(str(path))
    except SyntaxError as error:
        raise ValueError(f"{path} line {error.lineno} isn't Python: {error.msg}.") from error
    sample = names.get("SAMPLE")
    if not isinstance(sample, Sample | Script):
        raise ValueError(f"{path} sets no SAMPLE = Sample(...): see experiments/sample for examples.")
    return sample, names.get("__doc__") or ""


def run_sample(
    sample: Sample, pipeline: Pipeline, folder: Path, progress: Report = lambda done, total: None
) -> list[Path]:
    """Makes every clip and a sheet of all of them in `folder`, and gives their paths, the sheet's last."""
    rows = [prompt for prompt in sample.prompts for _ in range(sample.variations)]
    digits = len(str(len(rows)))
    names = [f"{i:0{digits}d}-{file_stem(prompt)}.{sample.ending}" for i, prompt in enumerate(rows, 1)]
    paths = [check_output(folder / name) for name in names]
    check_output(folder / "sheet.png")
    clips: list[Clip] = []
    for first in range(0, len(rows), sample.batch):
        clips += pipeline.generate(
            rows[first : first + sample.batch],
            seed=sample.seed + first,
            progress=lambda done, total, made=len(clips): progress(
                made * total + done * min(sample.batch, len(rows) - made), len(rows) * total
            ),
            **_options(sample),
        )
    for clip, path in zip(clips, paths, strict=True):
        clip.save(path)
    labels = [f"{row}  (seed {clip.metadata['seed']})" for row, clip in zip(rows, clips, strict=True)]
    contact_sheet(clips, labels, path=folder / "sheet.png")
    return [*paths, folder / "sheet.png"]
