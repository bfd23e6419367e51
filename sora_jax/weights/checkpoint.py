"""A checkpoint is a folder: config.json, one safetensors file a network, tokenizer.model and a model card."""

import dataclasses
import functools
import hashlib
import json
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from safetensors import SafetensorError

from sora_jax.models.config import MODELS, ModelConfig, from_json, to_json
from sora_jax.models.dit import DiT
from sora_jax.models.text import TextEncoder
from sora_jax.models.tokenizer import Tokenizer
from sora_jax.models.vae import VAE
from sora_jax.weights.diffusers_folder import INDEX, load_diffusers
from sora_jax.weights.tensors import Shapes, TensorFile, check_shapes, shapes_of, write_files, write_tensors

NETWORKS = ("dit", "vae", "text")
_SHIPPED = Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model that can be run: `params` has a tree for each of "dit", "vae" and "text"."""

    config: ModelConfig
    params: dict[str, Any]
    tokenizer: Tokenizer


def abstract_params(config: ModelConfig) -> dict[str, Any]:
    """Trees like `Checkpoint.params`, of `jax.ShapeDtypeStruct`s: the shapes alone."""
    return {network: _abstract(network, getattr(config, network)) for network in NETWORKS}


@functools.lru_cache(maxsize=32)
def _abstract(network: str, config: Any) -> Any:
    array = jax.ShapeDtypeStruct
    if network == "dit":
        x = array((1, *config.patch, config.in_channels), jnp.float32)
        text = array((1, 1, config.text_width), jnp.float32)
        module, inputs = DiT(config), (x, array((1,), jnp.float32), text)
    elif network == "vae":
        side = config.spatial_factor
        module, inputs = VAE(config), (array((1, 1 + config.temporal_factor, side, side, 3), jnp.float32),)
    else:
        module, inputs = TextEncoder(config), (array((1, 2), jnp.int32), array((1, 2), jnp.bool_))
    return nn.unbox(jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"])


def save(
    folder: str | Path, checkpoint: Checkpoint, dtype: Any = np.float16, card: str | None = None
) -> Path:
    """Writes a checkpoint's folder and returns its path. `card` is the text of its README.md.

    Floating-point parameters are stored as `dtype` (None: each as it is). All files appear together, or the
    folder stays as it was. Raises ValueError when the parameters don't fit the config, aren't finite in
    `dtype`, or the folder can't be written.
    """
    folder, config = Path(folder), checkpoint.config
    expected = abstract_params(config)
    check_shapes(dict.fromkeys(checkpoint.params, ()), dict.fromkeys(NETWORKS, ()), "the checkpoint")
    writers = {}
    for network in NETWORKS:
        params, shapes = checkpoint.params[network], shapes_of(expected[network])
        check_shapes(shapes_of(params), shapes, f"the checkpoint's {network}")
        # One entry, since safetensors writes several in any order and the same weights should give the same
        # bytes.
        metadata = {"layout": _layout(getattr(config, network), shapes)}
        writers[f"{network}.safetensors"] = functools.partial(
            write_tensors, params=params, dtype=dtype, metadata=metadata
        )
    writers["tokenizer.model"] = lambda path: path.write_bytes(checkpoint.tokenizer.model)
    if card is not None:
        writers["README.md"] = lambda path: path.write_text(card, encoding="utf-8")
    writers["config.json"] = lambda path: path.write_text(to_json(config), encoding="utf-8")
    try:
        write_files(folder, writers)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or str(error).removeprefix("Error while serializing: ")
        raise ValueError(f"can't save to {folder}: {reason}; nothing was written.") from error
    return folder


def load(name_or_path: str | Path, dtype: Any = np.float32) -> Checkpoint:
    """The checkpoint of a shipped model's name, of a folder that `save` wrote, or of a published one in the diffusers
    layout; its parameters are cast to `dtype`.

    Raises ValueError when there is no such model or folder, a file is missing, cut short or of another kind,
    or its tensors don't fit the folder's config.
    """
    folder = find(name_or_path)
    if (folder / INDEX).is_file():
        config, params, tokenizer = load_diffusers(folder, dtype)
        return Checkpoint(config=config, params=params, tokenizer=tokenizer)
    try:
        text = (folder / "config.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(
            f"{folder / 'config.json'} can't be read: the folder is no whole checkpoint."
        ) from error
    try:
        config = from_json(text)
    except ValueError as error:
        raise ValueError(f"{folder / 'config.json'}: {error}") from error
    files = {network: TensorFile(folder / f"{network}.safetensors") for network in NETWORKS}
    for network, file in files.items():
        part = getattr(config, network)
        # Tracing the networks for their shapes takes seconds; `save` did, and signed the shapes with the
        # config.
        if file.metadata.get("layout") != _layout(part, file.shapes):
            check_shapes(file.shapes, shapes_of(_abstract(network, part)), str(file.path))
    tokenizer = Tokenizer(folder / "tokenizer.model", config.text.max_length)
    if tokenizer.vocab_size > config.text.vocab:
        raise ValueError(
            f"{folder / 'tokenizer.model'} has {tokenizer.vocab_size} pieces and the config's vocabulary is "
            f"{config.text.vocab}: it is another model's tokenizer."
        )
    params = {network: file.read(dtype) for network, file in files.items()}
    return Checkpoint(config=config, params=params, tokenizer=tokenizer)


def find(name_or_path: str | Path) -> Path:
    """The folder of a shipped model's name, or the path itself where it is a folder.

    Raises ValueError, saying which models there are, when it is neither.
    """
    path, name = Path(name_or_path), str(name_or_path)
    if name in MODELS:
        shipped = _SHIPPED / name
        if (shipped / "config.json").is_file():
            return shipped
        raise ValueError(
            f"model {name} is known but its weights aren't in this package: give a checkpoint folder's path."
        )
    if path.is_dir():
        return path
    raise ValueError(
        f"there is no model or folder {name!r}: the models are {', '.join(MODELS)}, and a folder must "
        "hold config.json and its weights."
    )


def _layout(config: Any, shapes: Shapes) -> str:
    """A digest of a network's config and its tensors' names and shapes: equal ones fit, as when saved."""
    content = [dataclasses.asdict(config), sorted((name, list(shape)) for name, shape in shapes.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
