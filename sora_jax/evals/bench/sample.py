"""Whole generations: the prompt's text, every sampling step, the decoder. And its parts, each run by itself."""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.evals.bench.record import Measure, Peak
from sora_jax.evals.bench.sizes import tokens
from sora_jax.evals.bench.timing import Effort, interleaved, measured
from sora_jax.studio import programs
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import Request
from sora_jax.train.flops import count_flops

__all__ = ["measure"]

EVALUATIONS = {"heun": 2}
"""Of the denoiser in one step, where it is not one."""


def _flops(pipeline: Pipeline, request: Request) -> tuple[float, float]:
    """Of one evaluation of the denoiser as the request makes it, and of the decoder."""
    config, size = pipeline.config, request.size
    clips = len(request.prompts)
    rows = clips * (2 if request.guided else 1)
    latent = config.vae.latent_shape(size.frames, size.height, size.width)

    def array(*shape: int) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape, np.float32)

    text = array(rows, config.text.max_length, config.text.width)
    image = None
    if config.image is not None:
        count = config.dit.image_positions or config.image.tokens
        image = array(rows, count, config.image.width)
    x = array(rows, *latent[:3], config.dit.in_channels)
    denoise = functools.partial(programs.denoise, config=config.dit, dtype=jnp.float32, masked=False)
    decode = functools.partial(programs.decode, config=config.vae, dtype=jnp.float32)
    evaluation = count_flops(denoise, pipeline.params["dit"], x, array(rows), text, image)
    return float(evaluation), float(count_flops(decode, pipeline.params["vae"], array(clips, *latent)))


def measure(pipeline: Pipeline, request: Request, *, effort: Effort, peak: Peak | None) -> list[Measure]:
    """The generation, its latents and its decoding. The text encoder's FLOPs are left out of the count."""
    latents = pipeline.sample(request).latents
    runs = {
        "generation": lambda: pipeline.decode_batch(pipeline.sample(request).latents),
        "latents": lambda: pipeline.sample(request),
        "decoding": lambda: pipeline.decode_batch(latents),
    }
    times = interleaved(runs, effort, peak=True)
    evaluation, decoding = _flops(pipeline, request)
    denoising = evaluation * request.steps * EVALUATIONS.get(request.sampler, 1)
    size, clips = request.size, len(request.prompts)
    count = clips * tokens(pipeline.config, size.frames, size.height, size.width)
    flops = {"generation": denoising + decoding, "latents": denoising, "decoding": decoding}
    frames = {"clips": clips, "frames": clips * size.frames}
    each = {
        "generation": frames,
        "latents": {**frames, "steps": request.steps, "tokens": count * request.steps},
        "decoding": frames,
    }
    return [
        measured(
            name,
            seconds=times[name],
            each=each[name],
            flops=flops[name],
            peak=peak,
            figures={"seconds_per_clip_second": times[name].median / (clips * size.frames / size.fps)},
        )
        for name in runs
    ]
