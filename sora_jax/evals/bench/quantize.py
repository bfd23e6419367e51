"""What half precision and 8-bit weights save and cost, against float32.

Of each: bytes of the parameters, the velocity's error ‖v - v₃₂‖ / ‖v₃₂‖ on noise and the prompt's text, the largest of
several noise levels, and the PSNR of a whole generation from the same noise.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import jax
import numpy as np

from sora_jax.evals.bench.record import Measure
from sora_jax.media import psnr
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import Request
from sora_jax.weights import Checkpoint

__all__ = ["KINDS", "measure"]

LEVELS = (0.1, 0.3, 0.5, 0.7, 0.9)
KINDS: dict[str, dict[str, Any]] = {
    "float32": {},
    "bfloat16": {"dtype": "bfloat16"},
    "int8": {"quantize": "int8"},
    "fp8": {"quantize": "fp8"},
    "int8, bfloat16": {"dtype": "bfloat16", "quantize": "int8"},
}


def _bytes(pipeline: Pipeline) -> int:
    return sum(leaf.nbytes for leaf in jax.tree.leaves(pipeline.params))


def _velocities(pipeline: Pipeline, request: Request, x: np.ndarray) -> np.ndarray:
    text = pipeline.encode_text(request.prompts[:1])[0]
    return np.stack([np.asarray(pipeline.denoise(x, 1000 * level, text), np.float32) for level in LEVELS])


def measure(checkpoint: Checkpoint, request: Request, kinds: Sequence[str]) -> Iterator[Measure]:
    """The figures of each kind, as they are measured, float32 first."""
    size = request.size
    shape = checkpoint.config.vae.latent_shape(size.frames, size.height, size.width)
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    exact, clips = None, None
    for kind in ("float32", *(kind for kind in kinds if kind != "float32")):
        pipeline = Pipeline(checkpoint, **KINDS[kind])
        v = _velocities(pipeline, request, x)
        made = pipeline.decode_batch(pipeline.sample(request).latents)
        exact, clips = (v, made) if exact is None or clips is None else (exact, clips)
        errors = [
            np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-12) for a, b in zip(v, exact, strict=True)
        ]
        figures: dict[str, Any] = {
            "bytes": float(_bytes(pipeline)),
            "velocity_error": float(max(errors)),
            "psnr": psnr(made, clips),
        }
        yield Measure(name="weights", variant=kind, figures=figures)
