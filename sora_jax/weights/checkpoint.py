"""A checkpoint is a folder: config.json, one safetensors file a network, tokenizer.model and a model card."""

import dataclasses
import functools
import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

import jax
import numpy as np
from flax import traverse_util
from safetensors import SafetensorError

from sora_jax.models.config import MODELS, ModelConfig, from_json, to_json
from sora_jax.models.tokenizer import Tokenizer
from sora_jax.parallel.mesh import shardings
from sora_jax.weights.diffusers_folder import INDEX, open_diffusers, read_json
from sora_jax.weights.hub import fetch, is_hub_name
from sora_jax.weights.layout import Opened, gather, leaf
from sora_jax.weights.original import is_original, open_original
from sora_jax.weights.shapes import Network, abstract, abstract_params, parameter_shapes
from sora_jax.weights.tensors import Shapes, TensorFile, check_shapes, shapes_of, write_files, write_tensors

TOKENIZER_LIMIT = 64 * 2**20
"""Bytes of the largest tokenizer that is read; UMT5's has 4.5 MB."""
_SHIPPED = Path(__file__).parent


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A model that can be run: `params` has a tree for each of the config's `networks`."""

    config: ModelConfig
    params: dict[str, Any]
    tokenizer: Tokenizer


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
    check_shapes(dict.fromkeys(checkpoint.params, ()), dict.fromkeys(config.networks, ()), "the checkpoint")
    writers = {}
    for network, part in config.networks.items():
        params, shapes = checkpoint.params[network], shapes_of(expected[network])
        check_shapes(shapes_of(params), shapes, f"the checkpoint's {network}")
        # One entry, since safetensors writes several in any order and the same weights should give the same
        # bytes.
        metadata = {"layout": _layout(part, shapes)}
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


def load(
    source: str | Path,
    dtype: Any = np.float32,
    mesh: jax.sharding.Mesh | None = None,
    networks: Collection[str] | None = None,
) -> Checkpoint:
    """The checkpoint of a shipped model's name, a folder, or a repository of the hub as in "Wan-AI/Wan2.1-T2V-1.3B".

    A folder may be one that `save` wrote, one in the diffusers layout, or one as the Wan releases have it.

    Args:
        dtype: what parameters are cast to (None: each as it is); half precision is for the matrices of the
            denoiser and the encoders alone.
        mesh: where the parameters go, as `parallel.mesh` cuts them: each device's part is read by itself.
            Without one they are NumPy arrays.
        networks: those whose parameters are read, as the config's `networks` names them; not given, all.

    Raises ValueError when there is no such model or folder, a file is missing, cut short or of another kind,
    or its tensors don't fit the config.
    """
    opened = _open(find(source))
    config, path = opened.config, opened.tokenizer
    if path.is_file() and path.stat().st_size > TOKENIZER_LIMIT:
        raise ValueError(
            f"{path} has over {TOKENIZER_LIMIT // 2**20} MB, more than any tokenizer: get it anew."
        )
    tokenizer = Tokenizer(path, config.text.max_length)
    if tokenizer.vocab_size > config.text.vocab:
        raise ValueError(
            f"{path} has {tokenizer.vocab_size} pieces and the config's vocabulary is {config.text.vocab}: "
            "it is another model's tokenizer."
        )
    params = {}
    for name, network in config.networks.items():
        if networks is not None and name not in networks:
            continue
        places = None if mesh is None else parameter_shardings(network, mesh)
        # The autoencoder is published in float32 and small.
        kind = np.float32 if name == "vae" and dtype is not None else dtype
        params[name] = gather(*opened.parts[name], kind, places)
    return Checkpoint(config=config, params=params, tokenizer=tokenizer)


def parameter_shardings(network: Network, mesh: jax.sharding.Mesh) -> dict[str, jax.sharding.NamedSharding]:
    """Where each parameter of a network lies on a mesh, by path."""
    places: Any = traverse_util.flatten_dict(shardings(abstract(network), mesh), sep="/")
    return places


def _open(folder: Path) -> Opened:
    if (folder / INDEX).is_file():
        return open_diffusers(folder)
    return open_original(folder) if is_original(folder) else _open_native(folder)


def _open_native(folder: Path) -> Opened:
    path = folder / "config.json"
    tree = read_json(path)
    try:
        config = from_json(json.dumps(tree))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    parts = {}
    for name, network in config.networks.items():
        file = TensorFile(folder / f"{name}.safetensors")
        # Tracing the networks for their shapes takes seconds; `save` did, and signed the shapes with the
        # config.
        if file.metadata.get("layout") != _layout(network, file.shapes):
            check_shapes(file.shapes, parameter_shapes(network), str(file.path))
        parts[name] = (file, {path: leaf(shape, path) for path, shape in file.shapes.items()})
    return Opened(config=config, tokenizer=folder / "tokenizer.model", parts=parts)


def is_shipped(name: str) -> bool:
    """Whether the package holds weights by that name."""
    return (_SHIPPED / name / "config.json").is_file()


def find(source: str | Path) -> Path:
    """The folder of a shipped model's name, the path itself where it is a folder, or what the hub has by that name.

    Raises ValueError, saying which models there are, when it is none of them.
    """
    path, name = Path(source), str(source)
    if name in MODELS:
        if is_shipped(name):
            return _SHIPPED / name
        raise ValueError(
            f"model {name} is known but its weights aren't in this package: give a checkpoint folder's path, or "
            "its name on the hub, as in Wan-AI/Wan2.1-T2V-1.3B-Diffusers."
        )
    if path.is_dir():
        return path
    if is_hub_name(name):
        return fetch(name)
    raise ValueError(
        f"there is no model or folder {name!r}: the models are {', '.join(MODELS)}, and a folder must "
        "hold config.json and its weights."
    )


def _layout(config: Any, shapes: Shapes) -> str:
    """A digest of a network's config and its tensors' names and shapes: equal ones fit, as when saved."""
    content = [dataclasses.asdict(config), sorted((name, list(shape)) for name, shape in shapes.items())]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
