"""What step caching saves and costs: for each rule and threshold, evaluations, speed-up and PSNR.

The same prompts from the same noise, with and without; PSNR is of the decoded clips against those without, in dB of
the pixels' range. Time is that of the text and the sampling steps, in turns with the run without.
"""

import dataclasses
import functools
import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sora_jax.diffusion import (
    FirstBlock,
    Generation,
    MagCache,
    StepCache,
    TeaCache,
    finish,
    magnitude_ratios,
    velocity_from_data,
)
from sora_jax.evals.bench.record import Measure
from sora_jax.evals.bench.timing import Effort, interleaved, measured, timed
from sora_jax.media import psnr
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import Request

__all__ = ["THRESHOLDS", "choices", "measure", "measured_ratios", "psnr"]

THRESHOLDS = {
    "tea": (0.05, 0.1, 0.2, 0.3),
    "first-block": (0.05, 0.1, 0.2, 0.3),
    "mag": (0.01, 0.03, 0.06, 0.12),
}


def measured_ratios(pipeline: Pipeline, request: Request) -> np.ndarray:
    """MagCache's γ of each step, from a run of the request that skips nothing."""
    watched = dataclasses.replace(request, cache=StepCache(rule=MagCache(threshold=0.0)))
    going, velocities = pipeline.begin(watched), []
    for _ in range(request.steps):
        x = going.generation.x
        going = pipeline.advance(going)
        seen = going.generation.cache
        velocities.append(np.asarray(velocity_from_data(x, seen["data"], seen["sigma"])))
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


def _denoising(pipeline: Pipeline, request: Request) -> Generation:
    return pipeline.sample(request).generation


def measure(
    pipeline: Pipeline,
    request: Request,
    caches: Sequence[tuple[str, StepCache]],
    effort: Effort,
    ratios: Sequence[float] | np.ndarray = (),
) -> Iterator[Measure]:
    """The denoising with each cache, as it is measured, the first without one, which carries MagCache's `ratios`.

    `psnr` is of the whole batch, `worst` the clip's where it is least; both infinite where the clips are equal.
    """
    plain = functools.partial(_denoising, pipeline, request)
    clips = pipeline.decode_batch(finish(plain()))
    alone = timed(plain, effort)
    each = {"steps": request.steps}
    same: dict[str, Any] = {"evaluations": float(request.steps), "times_as_fast": 1.0}
    same |= {"psnr": math.inf, "worst": math.inf, "ratios": tuple(float(ratio) for ratio in ratios)}
    yield measured("latents", "no cache", seconds=alone, each=each, figures=same)
    for name, cache in caches:
        cached = functools.partial(_denoising, pipeline, dataclasses.replace(request, cache=cache))
        done = cached()
        # In turns with the run without, so that what else the machine does hits both.
        times = interleaved({"plain": plain, "cached": cached}, effort)
        made = pipeline.decode_batch(finish(done))
        yield measured(
            "latents",
            f"{name} {float(cache.rule.threshold):g}, order {cache.order}",
            seconds=times["cached"],
            each=each,
            figures={
                "threshold": float(cache.rule.threshold),
                "order": float(cache.order),
                "evaluations": float(done.cache["evaluations"]),
                "times_as_fast": times["plain"].median / times["cached"].median,
                "psnr": psnr(made, clips),
                "worst": min(psnr(a, b) for a, b in zip(made, clips, strict=True)),
            },
        )
