"""A timeline of frames, some known and some to be made: what every edit of a clip is before it is sampled.

`fill` makes the unknown ones, a window at a time (`studio.windows`), each one a run of the one sampler; what is known
comes out as it went in, but for the few frames that what was made leads over to.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from sora_jax.diffusion import StepCache
from sora_jax.models.config import ModelConfig
from sora_jax.studio.given import Given, check_edit
from sora_jax.studio.progress import Report, reporting
from sora_jax.studio.request import resolve, seeds_of
from sora_jax.studio.size import token_sides
from sora_jax.studio.windows import Window, latent_unknown, plan_windows
from sora_jax.typing import Bool, Float

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["Settings", "Timeline", "fill", "frames_at_once", "window_seeds"]

FADE_PSNR = 30.0
"""The least PSNR, dB, of a known frame that what was made before it leads over to."""


class Settings(TypedDict, total=False):
    """What every edit takes besides its own arguments; as of `Pipeline.generate`."""

    seed: int | Sequence[int]
    steps: int | None
    guidance: float | None
    guidance_2: float | None
    history: float | None
    """The noise level at which guidance's negative sees known frames; with 1 guidance is towards what follows from them
    as much as towards the words (arXiv 2502.06764)."""
    negative: str | None
    sampler: str | None
    cache: float | str | StepCache | None
    progress: bool | Report


@dataclasses.dataclass(frozen=True, kw_only=True)
class Timeline:
    """b clips of n frames that are edited alike."""

    frames: Float[np.ndarray, "b n h w 3"]
    """In [-1, 1]; anything where nothing is known and no source is meant."""
    known: Bool[np.ndarray, "n"] | Bool[np.ndarray, "n h w"]
    """Frames, or pixels of them, that stay."""
    fps: float
    scripts: tuple[tuple[str, ...], ...]
    """Prompts [k][b]."""
    shares: Float[np.ndarray, "k n"] | None = None
    """Each script's share of each frame, which sum to 1; None where there is one script."""
    strength: Float[np.ndarray, "n"] | None = None
    """The noise level that each unknown frame starts from, over `frames` as its source; None is from noise alone."""


def fill(
    pipeline: "Pipeline", timeline: Timeline, settings: Settings, *, length: int | None = None
) -> Float[np.ndarray, "b n h w 3"]:
    """The frames of the timeline with the unknown ones made.

    Those that are known keep their bits, but for the first after made ones, as many as share a latent: the autoencoder
    is causal, so it shows them otherwise after new frames, and they fade over from that, within `FADE_PSNR`.

    length: frames that are made at once, `frames_at_once` unless given.

    Raises ValueError for known frames that the network can't go on from.
    """
    config = pipeline.config
    check_edit(config, timeline.known)
    options: dict[str, Any] = dict(settings)
    progress, seed = options.pop("progress", True), options.pop("seed", 0)
    rows, n = timeline.frames.shape[:2]
    seeds = list(seeds_of(seed, rows))
    factor = config.vae.temporal_factor * config.dit.patch[0]
    frames = timeline.frames.astype(np.float32, copy=True)
    # A frame with one unknown pixel has to be made.
    whole = np.asarray(timeline.known.reshape(n, -1).all(axis=1))
    windows = plan_windows(whole, length or frames_at_once(config, n), factor)
    known = timeline.known.copy()
    with reporting(progress) as report:
        for i, window in enumerate(windows):
            inside = slice(max(window.start, 0), min(window.stop, n))
            here = dataclasses.replace(timeline, frames=frames, known=known)
            request, given = _request(pipeline, here, window, window_seeds(seeds, i), options)

            def steps(done: int, total: int, before: int = i) -> None:
                report(before * total + done, len(windows) * total)

            made = pipeline.decode_batch(pipeline.sample(request, given, report=steps).latents)
            kept = known[inside].reshape(-1, *(timeline.known.shape[1:] or (1, 1)), 1)
            made = made[:, inside.start - window.start : inside.stop - window.start]
            held = _faded(frames[:, inside], made, np.all(kept, axis=(1, 2, 3)), factor)
            frames[:, inside] = np.where(kept, held, made)
            known[inside] = True
    return frames


def frames_at_once(config: ModelConfig, n: int) -> int:
    """How many of n frames are made at once: the model's own length, or all if it can't go on from frames."""
    factor = config.vae.temporal_factor * config.dit.patch[0]
    return config.defaults.frames if config.known_frames else 1 + factor * -(-(n - 1) // factor)


def _faded(kept: np.ndarray, made: np.ndarray, known: Bool[np.ndarray, "n"], over: int) -> np.ndarray:
    """`kept` with its first frames after unknown ones on their way, `over` frames long, from `made` to themselves."""
    at = np.arange(len(known))
    since = at - np.maximum.accumulate(np.where(known, -over - 1, at))
    share = np.where(known, np.maximum(1 - since / (over + 1), 0), 0).reshape(-1, 1, 1, 1)
    change = made - kept
    apart = np.sqrt(np.square(change).mean(axis=(2, 3, 4), keepdims=True))
    most = 2.0 * 10.0 ** (-FADE_PSNR / 20.0)
    return kept + np.minimum(share, most / np.maximum(apart, most)).astype(np.float32) * change


def window_seeds(seeds: list[int], window: int) -> list[int]:
    """Seeds of a window's noise: the first window's are those asked for."""
    if not window:
        return seeds
    return [int(np.random.SeedSequence([seed, window]).generate_state(1)[0]) for seed in seeds]


def _request(
    pipeline: "Pipeline", timeline: Timeline, window: Window, seeds: list[int], options: dict[str, Any]
):
    """The window as the sampler takes it."""
    config, (n, height, width) = pipeline.config, timeline.frames.shape[1:4]
    factor = config.vae.temporal_factor
    at = np.clip(np.arange(window.start, window.stop), 0, n - 1)
    unknown = ~timeline.known[at]
    pixels = timeline.frames[:, at]
    given: dict[str, Any] = {}
    if timeline.known.any() or timeline.strength is not None:
        if timeline.strength is None:
            pixels = _guess(pixels, unknown)
        latents = pipeline.encode(pixels)
        if not unknown.all():
            given |= {"latents": latents, "unknown": _cells(latent_unknown(unknown, factor), config)[None]}
        if timeline.strength is not None:
            level = timeline.strength[at]
            level = np.concatenate([level[:1], level[1:].reshape(-1, factor).max(axis=1)])
            given |= {"source": latents, "strength": level.astype(np.float32)}
    scripts: Any = timeline.scripts
    if timeline.shares is not None:
        moving = unknown.reshape(len(at), -1).any(axis=1)
        shares = timeline.shares[:, at]
        present = np.flatnonzero(shares[:, moving].sum(axis=1))
        scripts = tuple(scripts[k] for k in present)
        if len(scripts) > 1:
            mean = shares[present, 1:].reshape(len(present), -1, factor).mean(axis=2)
            given |= {"scripts": scripts, "weights": np.concatenate([shares[present, :1], mean], axis=1)}
    request = resolve(
        config, scripts[0], seed=seeds, frames=len(at), fps=timeline.fps, size=(height, width), **options
    )
    return request, Given(**given)


def _guess(pixels: np.ndarray, unknown: np.ndarray) -> np.ndarray:
    """The frames with what is nearest in time, or within a frame in space, where nothing is known.

    The autoencoder sees some of what lies around a known frame: this is nearer to what will be there than nothing.
    """
    blind = np.asarray(unknown.reshape(len(unknown), -1).all(axis=1))
    seeing = np.flatnonzero(~blind)
    if not len(seeing):
        return pixels
    nearest = seeing[np.abs(np.arange(len(blind))[:, None] - seeing[None]).argmin(axis=1)]
    pixels, unknown = pixels[:, nearest], unknown[nearest]
    if unknown.ndim == 1 or not unknown.any():
        return pixels
    from scipy.ndimage import distance_transform_edt

    filled = pixels.copy()
    for t, hole in enumerate(unknown):
        if hole.any():
            rows, columns = distance_transform_edt(hole, return_distances=False, return_indices=True)  # pyright: ignore
            filled[:, t] = pixels[:, t, rows, columns]
    return filled


def _cells(unknown: np.ndarray, config: Any) -> np.ndarray:
    """Unknown pixels [t, h, w] as unknown latents [t, h', w'], whole tokens of them; [t] as it is."""
    if unknown.ndim == 1:
        return unknown
    (along, across), side = token_sides(config), config.vae.spatial_factor
    t, h, w = unknown.shape
    tokens = unknown.reshape(t, h // along, along, w // across, across).any(axis=(2, 4))
    return tokens.repeat(along // side, axis=1).repeat(across // side, axis=2)
