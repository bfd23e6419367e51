"""Words to clips, and what is done to clips: the pipeline that `sora_jax.load` gives."""

from sora_jax.studio.pipeline import Pipeline, load
from sora_jax.studio.request import Request
from sora_jax.studio.size import ClipSize, resolve_size

__all__ = ["ClipSize", "Pipeline", "Request", "load", "resolve_size"]
