"""Checkpoints of the Hugging Face hub by name, as in Wan-AI/Wan2.1-T2V-1.3B-Diffusers."""

import re
from pathlib import Path

PATTERNS = ("*.safetensors", "*.json", "*.model", "*.txt")
"""What is fetched: weights that hold no code, configs and tokenizers."""


def is_hub_name(name: str) -> bool:
    """Whether a source is written as an owner and a repository, as paths rarely are: two plain words and one "/"."""
    return re.fullmatch(r"[A-Za-z0-9][\w-]*/[A-Za-z0-9][\w.-]*", name) is not None and ".." not in name


def fetch(name: str) -> Path:
    """The folder that the hub's files of `name` are kept in; only those that aren't there yet are fetched.

    Raises ValueError where the [hub] extra isn't installed, there is no such repository, or the hub can't be
    reached and the files weren't fetched before.
    """
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise ValueError(
            f"there is no folder {name}, and to fetch it from the hub takes an extra: "
            "pip install 'sora_jax[hub]'."
        ) from error
    try:
        return Path(snapshot_download(name, allow_patterns=list(PATTERNS)))
    except Exception as error:  # the HTTP library beneath it has errors of its own, and changes with releases
        raise ValueError(
            f"there is no folder {name}, and the hub didn't give {name} ({_first_line(error)}): check the name, the "
            "network, and for a gated one HF_TOKEN."
        ) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".: ") if lines else type(error).__name__
