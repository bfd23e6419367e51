"""Find, load, save and convert checkpoints."""

from sora_jax.weights.checkpoint import Checkpoint, find, is_shipped, load, parameter_shardings, save
from sora_jax.weights.diffusers_export import save_diffusers
from sora_jax.weights.diffusers_text import from_diffusers_text
from sora_jax.weights.lora_files import load_loras, read_lora, save_lora
from sora_jax.weights.shapes import abstract_params
from sora_jax.weights.tensors import TensorFile, check_shapes, shapes_of, write_files, write_tensors

__all__ = [
    "Checkpoint",
    "TensorFile",
    "abstract_params",
    "check_shapes",
    "find",
    "from_diffusers_text",
    "is_shipped",
    "load",
    "load_loras",
    "parameter_shardings",
    "read_lora",
    "save",
    "save_diffusers",
    "save_lora",
    "shapes_of",
    "write_files",
    "write_tensors",
]
