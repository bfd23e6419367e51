"""What step caching saves and costs: for each rule and threshold, evaluations, speed-up and PSNR.

The same prompts from the same noise, with and without; PSNR is of the decoded clips against those without, in dB of
the pixels' range. Time is that of the sampling steps, the fastest of the repeats, after a run that compiles.
"""

import dataclasses
import time
from collections.abc import Iterator, Sequence

import numpy as np

from sora_jax.diffusion import FirstBlock, Generation, MagCache, StepCache, TeaCache, finish, magnitude_ratios
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import Request

__all__ = ["THRESHOLDS", "CacheFigure", "choices", "measure", "measured_ratios", "psnr"]

THRESHOLDS = {
    "tea": (0.05, 0.1, 0.2, 0.3),
    "first-block": (0.05, 0.1, 0.2, 0.3),
    "mag": (0.01, 0.03, 0.06, 0.12),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class CacheFigure:
    """One rule at one threshold, for all clips of the batch."""

    rule: str
    order: int
    threshold: float
    evaluations: int
    steps: int
    seconds: float
    speed_up: float
    psnr: float
    """Of the whole batch; `worst` is the clip's where it is least."""
    worst: float


def psnr(a: np.ndarray, b: np.ndarray) -> float:
    """Peak signal-to-noise ratio in dB of pixels in [-1, 1]; infinite where they are equal."""
    error = float(np.mean(np.square(np.asarray(a, np.float64) - np.asarray(b, np.float64))))
    return float("inf") if error == 0 else 10 * float(np.log10(4 / error))


def measured_ratios(pipeline: Pipeline, request: Request) -> np.ndarray:
    """MagCache's γ of each step, from a run of the request that skips nothing."""
    watched = dataclasses.replace(request, cache=StepCache(rule=MagCache(threshold=0.0)))
    going, velocities = pipeline.begin(watched), []
    for _ in range(request.steps):
        going = pipeline.advance(going)
        velocities.append(np.asarray(going.generation.cache["v"]))
    return np.asarray(magnitude_ratios(np.stack(velocities)))  # pyright: ignore[reportArgumentType]


def choices(names: Sequence[str], ratios: np.ndarray) -> Iterator[tuple[str, StepCache]]:
    """The rules of these names at every threshold of `THRESHOLDS`, in both orders."""
    for name in names:
        for order in (0, 1):
            for threshold in THRESHOLDS[name]:
                rule = {
                    "tea": TeaCache(threshold=threshold),
                    "first-block": FirstBlock(threshold=threshold),
                    "mag": MagCache(threshold=threshold, ratios=ratios),
                }[name]
                yield name, StepCache(rule=rule, order=order)


def _timed(pipeline: Pipeline, request: Request, repeats: int) -> tuple[Generation, float]:
    """The finished generation, and the seconds of its fastest run."""
    best = float("inf")
    for _ in range(repeats):
        first = pipeline.begin(request)
        began = time.perf_counter()
        last = pipeline.advance(first, request.steps)
        best = min(best, time.perf_counter() - began)
    return last.generation, best  # pyright: ignore[reportPossiblyUnbound]


def measure(
    pipeline: Pipeline, request: Request, caches: Sequence[tuple[str, StepCache]], repeats: int = 3
) -> Iterator[CacheFigure]:
    """The figures of each cache, as they are measured, the first being of the run without one."""
    pipeline.sample(request)
    whole, alone = _timed(pipeline, request, repeats)
    clips = pipeline.decode_batch(finish(whole))
    steps = request.steps
    common = {"steps": steps, "order": 0, "threshold": 0.0, "psnr": float("inf"), "worst": float("inf")}
    yield CacheFigure(rule="none", evaluations=steps, seconds=alone, speed_up=1.0, **common)
    compiled = set()
    for name, cache in caches:
        cached = dataclasses.replace(request, cache=cache)
        if (name, cache.order) not in compiled:
            compiled.add((name, cache.order))
            pipeline.sample(cached)
        done, seconds = _timed(pipeline, cached, repeats)
        made = pipeline.decode_batch(finish(done))
        yield CacheFigure(
            rule=name,
            order=cache.order,
            threshold=float(cache.rule.threshold),
            evaluations=int(done.cache["evaluations"]),
            steps=steps,
            seconds=seconds,
            speed_up=alone / seconds,
            psnr=psnr(made, clips),
            worst=min(psnr(a, b) for a, b in zip(made, clips, strict=True)),
        )
