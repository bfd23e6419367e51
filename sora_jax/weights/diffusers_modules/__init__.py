"""Torch modules that a model brings along in diffusers' layout where its networks are more than diffusers' own.

Each file stands alone: it is copied beside the weights, and diffusers imports it with `trust_remote_code=True`.
"""

import importlib
from importlib import resources
from typing import Any

TRANSFORMER = "SoraTransformer3DModel"
AUTOENCODER = "SoraAutoencoderKL"
MODULES = {TRANSFORMER: "sora_transformer", AUTOENCODER: "sora_autoencoder"}
"""The file that has each class."""


def source(module: str) -> bytes:
    """A module as it lies beside the weights that need it."""
    return resources.files(__name__).joinpath(f"{module}.py").read_bytes()


def network(config: dict[str, Any]) -> Any:
    """diffusers' network, or ours, that a `config.json` describes, with random weights; needs Torch."""
    kind = config["_class_name"]
    library = f"{__name__}.{MODULES[kind]}" if kind in MODULES else "diffusers"
    return getattr(importlib.import_module(library), kind).from_config(config)
