"""What each benchmark can be asked for."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sora_jax.models.remat import Remat
from sora_jax.parallel import MeshConfig

__all__ = [
    "Args",
    "Cache",
    "Compare",
    "Data",
    "Edits",
    "Ops",
    "Peers",
    "Quantize",
    "Sample",
    "Timed",
    "Train",
    "Vae",
    "Written",
]

MODELS_OWN = tyro.conf.arg(help_behavior_hint="(default: the model's)")
Size = Annotated[str | None, MODELS_OWN]
Frames = Annotated[int | None, MODELS_OWN]


@dataclass(frozen=True, kw_only=True)
class Written:
    """Where the record goes."""

    out: Path | None = None
    """Write the record to this file."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the record in place of the table."""


@dataclass(frozen=True, kw_only=True)
class Timed(Written):
    """How hard to measure."""

    repeats: int = 5
    """The fewest repeats of each call."""
    seconds: float = 2.0
    """Go on repeating until each call has used so much time."""
    warmup: int = 1
    """Calls before the first that counts."""


@dataclass(frozen=True, kw_only=True)
class Train(Timed):
    """The training step as the loop compiles it, on random arrays."""

    model: str = "playground"
    """A named size; the denoiser alone, on text features."""
    experiment: Path | None = None
    """Take the step from this experiment instead, and say too how long it waits for its own data."""
    batch_size: Annotated[
        int | None, tyro.conf.arg(help_behavior_hint="(default: 1, or the experiment's)")
    ] = None
    """Clips in a step."""
    accumulate: int = 1
    """Parts that the batch is computed in."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""
    remat: Annotated[Remat | None, MODELS_OWN] = None
    """What the backward pass computes again."""
    optimizer: Literal["adamw", "muon"] = "adamw"
    mesh: MeshConfig = MeshConfig()
    steps: int = 20
    """Steps on the experiment's own data."""


@dataclass(frozen=True, kw_only=True)
class Generation:
    """What is sampled."""

    model: str = "playground"
    """A named size (random weights, but for `playground`), or a folder of weights."""
    prompt: tuple[str, ...] = ("a red circle moves right",)
    """What to sample, as one batch."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    sampler: Annotated[str | None, MODELS_OWN] = None
    """unipc, dpmpp, heun, euler or ancestral."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""


@dataclass(frozen=True, kw_only=True)
class Sample(Timed, Generation):
    """Whole generations, from words to pixels."""

    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""


@dataclass(frozen=True, kw_only=True)
class Vae(Timed):
    """A VAE encoding and decoding."""

    model: str = "playground"
    """A named size."""
    batch_size: int = 1
    """Clips at once."""
    size: Size = None
    """WIDTHxHEIGHT in pixels."""
    frames: Frames = None
    """Frames of a clip."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products."""


@dataclass(frozen=True, kw_only=True)
class Data(Timed):
    """The input pipeline alone."""

    only: str = ""
    """Measure only kinds with this in their name: playground, windows, folder, latents."""
    path: str | None = None
    """A dataset on disk for the kind folder; one of a few clips is made where none is named."""
    batch_size: int = 16
    """Examples at once."""
    size: str = "64x64"
    """WIDTHxHEIGHT in pixels."""
    frames: int = 17
    """Frames of a clip."""


@dataclass(frozen=True, kw_only=True)
class Ops(Timed):
    """The lowerings of attention and convolution against each other."""

    only: str = ""
    """Measure only cases with this in their name."""


@dataclass(frozen=True, kw_only=True)
class Cache(Timed, Generation):
    """Sampling with steps left out, against the run without."""

    only: str = ""
    """Measure only rules with this in their name."""
    repeats: int = 3
    """The fewest repeats of each call."""
    seconds: float = 0.0
    """Go on repeating until each call has used so much time."""


@dataclass(frozen=True, kw_only=True)
class Edits(Timed):
    """Edits of clips, against a generation of the same length and the encoding of what they are given."""

    model: str = "playground"
    """A named size (random weights, but for `playground`), or a folder of weights."""
    prompt: str = "a red circle moves right"
    """What they are told."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    only: str = ""
    """Measure only edits with this in their name."""


@dataclass(frozen=True, kw_only=True)
class Quantize(Written, Generation):
    """What half precision and 8-bit weights save and cost, against float32."""

    only: str = ""
    """Measure only kinds with this in their name."""


@dataclass(frozen=True, kw_only=True)
class Peers(Timed):
    """The same networks here and by diffusers on Torch, in turns. Needs pip install 'sora_jax[parity]'."""

    only: str = ""
    """Measure only cases with this in their name, such as "DiT 100m"."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32",)
    """Of weights and products, on both sides. On a CPU without bfloat16 instructions Torch's takes minutes."""
    repeats: int = 3
    """The fewest repeats of each call."""


@dataclass(frozen=True, kw_only=True)
class Compare:
    """Records as one table, against the first, and as a plot (pip install 'sora_jax[plots]')."""

    records: tyro.conf.Positional[tuple[Path, ...]]
    """Files that --out wrote."""
    plot: Path = Path("bench.png")
    """The picture to write."""


Args = (
    Annotated[Train, tyro.conf.subcommand("train")]
    | Annotated[Sample, tyro.conf.subcommand("sample")]
    | Annotated[Vae, tyro.conf.subcommand("vae")]
    | Annotated[Data, tyro.conf.subcommand("data")]
    | Annotated[Ops, tyro.conf.subcommand("ops")]
    | Annotated[Edits, tyro.conf.subcommand("edits")]
    | Annotated[Cache, tyro.conf.subcommand("cache")]
    | Annotated[Quantize, tyro.conf.subcommand("quantize")]
    | Annotated[Peers, tyro.conf.subcommand("peers")]
    | Annotated[Compare, tyro.conf.subcommand("compare")]
)
