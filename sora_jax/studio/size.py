"""How long and how large a clip may be: what was asked for, as sides and frames that fit the latents.

A clip has 1 + k·f frames, f being the VAE's temporal factor: n seconds are n·fps frames and one more, as 2 s at
8 fps are frames 0 to 16. Sides are multiples of the VAE's spatial factor times the denoiser's patch.
"""

import dataclasses
import math
import re

from sora_jax.models.config import ModelConfig

__all__ = [
    "ClipSize",
    "frames_for",
    "parse_aspect",
    "parse_size",
    "resolve_size",
    "sides_for_aspect",
    "token_sides",
]

MAX_SIDE = 8192
MAX_FRAMES = 4097
MAX_FPS = 240.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class ClipSize:
    """A clip's size that fits a model: pixels, frames, frames a second."""

    height: int
    width: int
    frames: int
    fps: float


def token_sides(config: ModelConfig) -> tuple[int, int]:
    """(height, width) in pixels of one token: a clip's sides are multiples of them."""
    side, patch = config.vae.spatial_factor, config.dit.patch
    return side * patch[1], side * patch[2]


def parse_size(size: str | tuple[int, int]) -> tuple[int, int]:
    """(height, width) in pixels from "WIDTHxHEIGHT", as sizes are written, or from (height, width) itself."""
    if isinstance(size, str):
        found = re.fullmatch(r"\s*(\d{1,18})\s*[x×X*]\s*(\d{1,18})\s*", size)
        if not found:
            raise ValueError(f"size {size!r} isn't WIDTHxHEIGHT in pixels: write it like 64x64.")
        return int(found[2]), int(found[1])
    try:
        height, width = size
        sides = int(height), int(width)
        whole = sides == (height, width)
    except (TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise ValueError(f"size {size!r} isn't (height, width) in pixels: write it like (64, 64) or '64x64'.")
    return sides


def parse_aspect(aspect: str) -> float:
    """Width over height from "16:9", within 1:8 and 8:1."""
    found = re.fullmatch(r"\s*(\d{1,5}(?:\.\d+)?)\s*[:/]\s*(\d{1,5}(?:\.\d+)?)\s*", aspect)
    if not found or not float(found[1]) or not float(found[2]):
        raise ValueError(f"aspect {aspect!r} isn't WIDTH:HEIGHT: write it like 16:9.")
    ratio = float(found[1]) / float(found[2])
    if not 1 / 8 <= ratio <= 8:
        raise ValueError(f"aspect {aspect} is too long: choose one from 1:8 to 8:1.")
    return ratio


def sides_for_aspect(ratio: float, area: int, multiples: tuple[int, int]) -> tuple[int, int]:
    """(height, width): the multiples whose aspect is nearest to `ratio` at about `area` pixels."""
    along, across = multiples
    best = (math.inf, along, across)
    ideal = math.sqrt(area / ratio)
    for rows in {max(1, math.floor(ideal / along)), max(1, math.ceil(ideal / along))}:
        columns_here = ideal * ratio / across
        for columns in {max(1, math.floor(columns_here)), max(1, math.ceil(columns_here))}:
            height, width = rows * along, columns * across
            # The shape matters most; the area decides between two shapes that are as good.
            error = abs(math.log(width / height / ratio)) + 0.25 * abs(math.log(height * width / area))
            best = min(best, (error, height, width))
    return best[1], best[2]


def frames_for(seconds: float, fps: float, factor: int) -> int:
    """Frames of a clip of `seconds`: the 1 + k·factor that is within one frame of seconds·fps.

    Raises ValueError, naming the nearest lengths, where there is none.
    """
    if not (math.isfinite(seconds) and seconds > 0):
        raise ValueError(
            f"seconds is {seconds:g} and must be above 0: leave it out for the model's own length."
        )
    asked = seconds * fps
    if asked > MAX_FRAMES:
        raise ValueError(
            f"{seconds:g} seconds at {fps:g} frames a second are {asked:,.0f} frames: at most {MAX_FRAMES} "
            f"are made at once ({MAX_FRAMES / fps:g} seconds)."
        )
    below = max(0, math.floor((asked - 1) / factor))
    fits = [1 + factor * below, 1 + factor * (below + 1)]
    frames = min(fits, key=lambda n: abs(n - asked))
    if abs(frames - asked) > 1 + 1e-6:
        lengths = " or ".join(f"{_short((n - 1) / fps)} ({n} frames)" for n in fits if n > 1)
        raise ValueError(
            f"{seconds:g} seconds at {fps:g} frames a second don't fit clips of 1 + {factor}·k frames: "
            f"the nearest seconds that do are {lengths}."
        )
    return frames


def _short(seconds: float) -> str:
    return f"{seconds:.3f}".rstrip("0").rstrip(".")


def _check_frames(frames: int, factor: int) -> int:
    if frames < 1 or frames > MAX_FRAMES or (frames - 1) % factor:
        below = min(max(frames - 1, 0), MAX_FRAMES - 1) // factor * factor + 1
        fits = [n for n in (below, below + factor) if n <= MAX_FRAMES]
        raise ValueError(
            f"{frames} frames don't fit: a clip has 1 + {factor}·k frames, at most {MAX_FRAMES}; "
            f"the nearest are {' and '.join(map(str, fits))}."
        )
    return frames


def _check_side(name: str, side: int, multiple: int) -> int:
    if side < 1 or side > MAX_SIDE or side % multiple:
        most = MAX_SIDE // multiple * multiple
        below = min(max(side, 0), most) // multiple * multiple
        fits = [n for n in (below, below + multiple) if 1 <= n <= most]
        raise ValueError(
            f"a {name} of {side} pixels doesn't fit: it must be a multiple of {multiple} up to {most}; the "
            f"nearest {'are' if len(fits) > 1 else 'is'} {' and '.join(map(str, fits))}."
        )
    return side


def resolve_size(
    config: ModelConfig,
    *,
    seconds: float | None = None,
    frames: int | None = None,
    fps: float | None = None,
    size: str | tuple[int, int] | None = None,
    aspect: str | None = None,
) -> ClipSize:
    """The clip's size where what isn't given is the model's default.

    `seconds` is met within one frame, `frames` exactly: one of them. `aspect` keeps the default's area:
    one of `size` and `aspect`. Raises ValueError for what doesn't fit, naming the nearest that does.
    """
    defaults, vae = config.defaults, config.vae
    if seconds is not None and frames is not None:
        raise ValueError("seconds and frames both say how long the clip is: give one of them.")
    if size is not None and aspect is not None:
        raise ValueError("size and aspect both say what shape the clip has: give one of them.")
    rate = defaults.fps if fps is None else float(fps)
    if not 0 < rate <= MAX_FPS:
        raise ValueError(f"fps is {rate:g} and must be above 0 and at most {MAX_FPS:g}.")
    factor = vae.temporal_factor * config.dit.patch[0]
    if seconds is not None:
        frames = frames_for(seconds, rate, factor)
    elif frames is None:
        frames = defaults.frames
    multiples = token_sides(config)
    if aspect is not None:
        sides = sides_for_aspect(parse_aspect(aspect), defaults.height * defaults.width, multiples)
    elif size is not None:
        sides = parse_size(size)
    else:
        sides = (defaults.height, defaults.width)
    return ClipSize(
        height=_check_side("height", sides[0], multiples[0]),
        width=_check_side("width", sides[1], multiples[1]),
        frames=_check_frames(frames, factor),
        fps=rate,
    )
