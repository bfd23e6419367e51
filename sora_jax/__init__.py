"""An open Sora in JAX.

import sora_jax as sora

pipeline = sora.load("playground")
clip = pipeline.generate("a red circle moves right", seed=0)
clip.save("clip.mp4")
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sora_jax.media import Clip as Clip
    from sora_jax.media import read as read
    from sora_jax.studio.pipeline import Pipeline as Pipeline
    from sora_jax.studio.pipeline import load as load

# Imported when first used, so that `import sora_jax` and the command line's help cost nothing.
_HOME = {
    "Clip": "sora_jax.media",
    "Pipeline": "sora_jax.studio.pipeline",
    "load": "sora_jax.studio.pipeline",
    "read": "sora_jax.media",
}

__all__ = ["Clip", "Pipeline", "load", "read"]


def __getattr__(name: str):
    if name not in _HOME:
        raise AttributeError(f"module 'sora_jax' has no attribute {name!r}; it has {', '.join(__all__)}")
    import importlib

    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__():
    return __all__
