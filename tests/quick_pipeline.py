"""A pipeline whose networks make noise at once: for what is around them."""

import types

import numpy as np
import tiny_model

from sora_jax.media import Clip
from sora_jax.studio.pipeline import Pipeline

__all__ = ["QuickPipeline"]


class QuickPipeline(Pipeline):
    """That of `tiny_model`, of whose requests the noise depends on the seeds alone."""

    def __init__(self):
        super().__init__(tiny_model.checkpoint())

    def sample(self, request, given=None, noise=None, report=lambda done, total: None):
        for step in range(request.steps + 1):
            report(step, request.steps)
        return types.SimpleNamespace(latents=request)

    def encode(self, clip):
        return None

    def decode_batch(self, latents):
        size, rows = latents.size, [np.random.default_rng(seed) for seed in latents.seeds]
        return np.stack([rng.uniform(-1, 1, (size.frames, size.height, size.width, 3)) for rng in rows])

    def finish(self, generation):
        request = generation.latents
        made = self.decode_batch(request)
        return [Clip(frames, request.size.fps, request.settings(row)) for row, frames in enumerate(made)]
