"""LoRA files: safetensors as PEFT and diffusers write and read them, and the two other layouts that Wan's come in.

    transformer.blocks.0.attn1.to_q.lora_A.weight        diffusers (PEFT alone: base_model.model. or no prefix)
    diffusion_model.blocks.0.self_attn.q.lora_down.weight    the original network's names
    lora_unet_blocks_0_self_attn_q.lora_down.weight      kohya's, with underscores

A is [r, d_in] and B is [d_out, r] there. The scale α/r comes from a tensor `NAME.alpha`, else from the adapter's config
(the file's metadata, or adapter_config.json beside it), else it is 1. Biases may be trained as well: `lora_B.bias`,
scaled like the product, or `diff_b` in the original's names, as it is.
"""

import functools
import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from flax.traverse_util import flatten_dict

from sora_jax.models.lora import Lora, merge
from sora_jax.weights.diffusers_folder import read_json
from sora_jax.weights.tensors import TensorFile, write_files, write_tensors

__all__ = ["FILE_NAMES", "load_loras", "parse_lora", "read_lora", "save_lora", "written_names"]

FILE_NAMES = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")
"""What diffusers and PEFT call the file in an adapter's folder."""
METADATA = "lora_adapter_metadata"
_PREFIXES = ("transformer.", "diffusion_model.", "base_model.model.", "lora_unet_", "")
_KINDS = {
    ".lora_A.weight": "a",
    ".lora_down.weight": "a",
    ".lora_B.weight": "b",
    ".lora_up.weight": "b",
    ".alpha": "alpha",
    ".lora_B.bias": "bias",
    ".diff_b": "difference",
}
# Our kernel's path, diffusers' name, and the original network's; `{}` is a block's number.
_LAYERS = (
    ("time/inner", "condition_embedder.time_embedder.linear_1", "time_embedding.0"),
    ("time/outer", "condition_embedder.time_embedder.linear_2", "time_embedding.2"),
    ("time_modulation", "condition_embedder.time_proj", "time_projection.1"),
    ("text/inner", "condition_embedder.text_embedder.linear_1", "text_embedding.0"),
    ("text/outer", "condition_embedder.text_embedder.linear_2", "text_embedding.2"),
    ("image/inner", "condition_embedder.image_embedder.ff.net.0.proj", "img_emb.proj.1"),
    ("image/outer", "condition_embedder.image_embedder.ff.net.2", "img_emb.proj.3"),
    ("head", "proj_out", "head.head"),
    ("blocks/self_attention/query", "blocks.{}.attn1.to_q", "blocks.{}.self_attn.q"),
    ("blocks/self_attention/key", "blocks.{}.attn1.to_k", "blocks.{}.self_attn.k"),
    ("blocks/self_attention/value", "blocks.{}.attn1.to_v", "blocks.{}.self_attn.v"),
    ("blocks/self_attention/out", "blocks.{}.attn1.to_out.0", "blocks.{}.self_attn.o"),
    ("blocks/cross_attention/query", "blocks.{}.attn2.to_q", "blocks.{}.cross_attn.q"),
    ("blocks/cross_attention/key", "blocks.{}.attn2.to_k", "blocks.{}.cross_attn.k"),
    ("blocks/cross_attention/value", "blocks.{}.attn2.to_v", "blocks.{}.cross_attn.v"),
    ("blocks/cross_attention/out", "blocks.{}.attn2.to_out.0", "blocks.{}.cross_attn.o"),
    ("blocks/cross_attention/added_key", "blocks.{}.attn2.add_k_proj", "blocks.{}.cross_attn.k_img"),
    ("blocks/cross_attention/added_value", "blocks.{}.attn2.add_v_proj", "blocks.{}.cross_attn.v_img"),
    ("blocks/ffn_in", "blocks.{}.ffn.net.0.proj", "blocks.{}.ffn.0"),
    ("blocks/ffn_out", "blocks.{}.ffn.net.2", "blocks.{}.ffn.2"),
)
_DIFFUSERS = {f"{ours}/kernel": name for ours, name, _ in _LAYERS}
_SLACK = 64 * 2**20  # bytes of a header and of what else a file may hold besides its factors


def written_names(paths: Iterable[str]) -> dict[str, str]:
    """diffusers' name of the linear layer of each kernel, with `{}` for a block's number.

    Raises ValueError for a kernel that is no linear layer there.
    """
    names = {}
    for path in paths:
        if path not in _DIFFUSERS:
            raise ValueError(
                f"a LoRA of {path} can't be written: it is no linear layer in diffusers' network; "
                "narrow the targets."
            )
        names[path] = _DIFFUSERS[path]
    return names


def _layers(kernels: Mapping[str, Any]) -> dict[str, tuple[str, int | None]]:
    """(our path, block) of every linear layer of a network, by its name in each of the layouts."""
    found = {}
    for ours, name, original in _LAYERS:
        path = f"{ours}/kernel"
        if path in kernels:
            for block in range(kernels[path].shape[0]) if "{}" in name else (None,):
                for layout in (name, original, original.replace(".", "_")):
                    found[layout.format(block)] = (path, block)
    return found


def parse_lora(text: str) -> tuple[str, float]:
    """("file", 0.8) of "file:0.8"; the weight is 1 where none is given."""
    path, _, weight = text.rpartition(":")
    try:
        return (path, float(weight)) if path else (text, 1.0)
    except ValueError:
        return text, 1.0


def load_loras(params: Any, adapters: Sequence[Any]) -> Any:
    """The denoiser's parameters with adapters from files: each a path, "path:weight" or (path, weight).

    Raises ValueError as `read_lora` does, or for a weight that is no finite number.
    """
    pairs = [parse_lora(str(one)) if isinstance(one, str | Path) else one for one in adapters]
    for path, weight in pairs:
        if not math.isfinite(weight):
            raise ValueError(f"the weight of LoRA {path} is {weight}: give a number, such as 0.8.")
    return merge(params, [(read_lora(path, params), float(weight)) for path, weight in pairs])


def read_lora(path: str | Path, params: Any) -> Lora:
    """The adapter in a file, or in a folder that holds one, for the denoiser `params`; its α/r is in B already.

    Blocks that the file leaves out are left as they are, by zeros. Raises ValueError, in one sentence, for a file that
    is missing, broken or far larger than any adapter, and for tensors that are unknown, missing, of a wrong shape or
    not finite.
    """
    path = _file(Path(path))
    kernels: dict[str, Any] = dict(flatten_dict(params, sep="/"))  # pyright: ignore
    layers = _layers(kernels)
    shapes = [kernels[leaf].shape for leaf in {leaf for leaf, _ in layers.values()}]
    most = sum(4 * math.prod(shape) * (shape[-1] + shape[-2]) // max(shape[-2:]) for shape in shapes)
    if (size := path.stat().st_size) > most + _SLACK:
        raise ValueError(
            f"{path} has {size / 2**20:,.0f} MB, more than any adapter of this network can have."
        )
    file = TensorFile(path)
    found = _sorted(file, layers)
    scale_of = _scales(path, file.metadata)
    ranks: Counter[str] = Counter()
    for (leaf, _), names in found.items():
        if "a" in names:
            ranks[leaf] = max(ranks[leaf], _rank(file, names, kernels[leaf].shape))
    lora: dict[str, dict[str, np.ndarray]] = {}
    for leaf, rank in sorted(ranks.items()):
        shape = kernels[leaf].shape
        a = np.zeros((*shape[:-1], rank), np.float32)
        b = np.zeros((*shape[:-2], rank, shape[-1]), np.float32)
        for (at, block), names in found.items():
            if at == leaf and "a" in names:
                down, up = (_finite(file, names[kind]) for kind in "ab")
                place = () if block is None else (block,)
                a[(*place, slice(None), slice(len(down)))] = down.T
                b[(*place, slice(len(down)))] = up.T * scale_of(file, names, len(down))
        lora[leaf] = {"a": a, "b": b}
    return lora | _biases(file, found, kernels, scale_of)


def _biases(
    file: TensorFile, found: Mapping[Any, Mapping[str, str]], kernels: Mapping[str, Any], scale_of: Any
) -> dict[str, dict[str, np.ndarray]]:
    """What the file adds to biases, by our path."""
    biases: dict[str, dict[str, np.ndarray]] = {}
    for (leaf, block), names in found.items():
        bias = leaf.removesuffix("kernel") + "bias"
        for kind in sorted({"bias", "difference"} & names.keys()):
            value, shape = _finite(file, names[kind]), kernels[bias].shape
            if value.shape != shape[-1:]:
                raise ValueError(
                    f"{file.path}: {names[kind]} has shape {list(value.shape)}, and this network's layer "
                    f"{list(shape[-1:])}: it was made for another network."
                )
            scale = scale_of(file, names, file.shapes[names["a"]][0]) if kind == "bias" else 1.0
            delta = biases.setdefault(bias, {"delta": np.zeros(shape, np.float32)})["delta"]
            delta[... if block is None else block] += value * scale
    return biases


def _file(path: Path) -> Path:
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"there is no LoRA file {path}: give a .safetensors file, or a folder with one.")
        return path
    for name in FILE_NAMES:
        if (path / name).is_file():
            return path / name
    raise ValueError(f"{path} holds no LoRA: none of {', '.join(FILE_NAMES)} is there.")


def _sorted(file: TensorFile, layers: Mapping[str, Any]) -> dict[tuple[str, int | None], dict[str, str]]:
    """The tensors' names by layer and kind ("a", "b", "alpha", ...); under "layer" the layer's own name."""
    found: dict[tuple[str, int | None], dict[str, str]] = {}
    for tensor in file.shapes:
        # Extractors write norms that didn't change as differences of zero.
        if "norm" in tensor and tensor.endswith((".diff", ".diff_b")) and not _finite(file, tensor).any():
            continue
        suffix = next((suffix for suffix in _KINDS if tensor.endswith(suffix)), "")
        stem = tensor.removesuffix(suffix)
        names = (stem.removeprefix(prefix) for prefix in _PREFIXES if stem.startswith(prefix))
        name = next((name for name in names if name in layers), None)
        if not suffix or name is None:
            raise ValueError(
                f"{file.path} holds {tensor}, which is no factor of a linear layer of this network: "
                "the LoRA is of another kind, or for another network."
            )
        entry = found.setdefault(layers[name], {"layer": name})
        if _KINDS[suffix] in entry or entry["layer"] != name:
            raise ValueError(f"{file.path} holds {name} twice: get it anew.")
        entry[_KINDS[suffix]] = tensor
    for names in found.values():
        for kind, word in (("a", "lora_A"), ("b", "lora_B")):
            if kind not in names and names.keys() != {"layer", "difference"}:
                raise ValueError(f"{file.path} lacks {names['layer']}.{word}.weight: it is cut short.")
    if not found:
        raise ValueError(f"{file.path} holds no tensors: it is no LoRA.")
    return found


def _rank(file: TensorFile, names: Mapping[str, str], kernel: tuple[int, ...]) -> int:
    a, b = (file.shapes[names[kind]] for kind in "ab")
    d_in, d_out = kernel[-2:]
    rank = a[0] if a else 0
    if a != (rank, d_in) or b != (d_out, rank) or not 1 <= rank <= min(d_in, d_out):
        raise ValueError(
            f"{file.path}: {names['layer']} has factors {list(a)} and {list(b)}, and this network's layer takes "
            f"[r, {d_in}] and [{d_out}, r] with r of at most {min(d_in, d_out)}: it was made for another network."
        )
    return rank


def _finite(file: TensorFile, name: str) -> np.ndarray:
    array = np.asarray(file.tensor(name), np.float32)
    if not np.isfinite(array).all():
        raise ValueError(f"{file.path}: {name} holds numbers that aren't finite: get it anew.")
    return array


def _scales(path: Path, metadata: Mapping[str, str]) -> Any:
    """A function (file, names of a layer, rank) -> α/r, or α/√r where the adapter's config says so."""
    config = _adapter_config(path, metadata)
    alpha, patterns = config.get("lora_alpha"), config.get("alpha_pattern") or {}
    numbers = [alpha, *patterns.values()] if isinstance(patterns, dict) else [math.nan]
    if not all(n is None or (isinstance(n, int | float) and math.isfinite(n)) for n in numbers):
        raise ValueError(f"{path}: the adapter's config gives alphas that are no numbers: get it anew.")
    by_name = {str(name).removeprefix("^"): value for name, value in patterns.items()}
    if odd := [name for name in by_name if not name.replace(".", "").replace("_", "").isalnum()]:
        raise ValueError(f"{path}: alpha_pattern {odd[0]!r} is an expression; only layers' names are read.")

    def scale(file: TensorFile, names: Mapping[str, str], rank: int) -> float:
        if "alpha" in names:
            value = _finite(file, names["alpha"])
            if value.size != 1:
                raise ValueError(
                    f"{file.path}: {names['alpha']} has shape {list(value.shape)}, and is one number."
                )
            return float(value.reshape(())) / rank
        parts = names["layer"].split(".")
        suffixes = (".".join(parts[i:]) for i in range(len(parts)))
        value = next((by_name[name] for name in suffixes if name in by_name), alpha)
        return 1.0 if value is None else value / (rank**0.5 if config.get("use_rslora") else rank)

    return scale


def _adapter_config(path: Path, metadata: Mapping[str, str]) -> dict[str, Any]:
    if METADATA in metadata:
        try:
            config = json.loads(metadata[METADATA])
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{path}: its {METADATA} is no JSON: get it anew.") from error
        if not isinstance(config, dict):
            raise ValueError(f"{path}: its {METADATA} is no JSON object: get it anew.")
        return {key.removeprefix("transformer."): value for key, value in config.items()}
    beside = path.with_name("adapter_config.json")
    return read_json(beside) if path.name == FILE_NAMES[1] and beside.is_file() else {}


def save_lora(path: str | Path, lora: Lora, scale: float, dtype: Any = np.float32) -> Path:
    """Writes an adapter as diffusers' `load_lora_weights` and PEFT take it, whole or not at all; returns the path.

    `scale` is its α/r. Raises ValueError for a kernel that is no linear layer there, or numbers that aren't finite.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"{path}: a LoRA's file ends in .safetensors.")
    tensors, ranks = {}, {}
    for leaf, name in written_names(sorted(lora)).items():
        a, b = (np.asarray(lora[leaf][kind], np.float32) for kind in "ab")
        ranks[name.removeprefix("blocks.{}.")] = a.shape[-1]
        for block in range(len(a)) if "{}" in name else (None,):
            full = f"transformer.{name.format(block)}"
            place = () if block is None else (block,)
            tensors[f"{full}.lora_A.weight"], tensors[f"{full}.lora_B.weight"] = a[place].T, b[place].T
    rank = Counter(ranks.values()).most_common(1)[0][0]
    others = {name: own for name, own in sorted(ranks.items()) if own != rank}
    about = {
        "r": rank,
        "lora_alpha": scale * rank,
        "target_modules": sorted(ranks),
        "rank_pattern": others,
        "alpha_pattern": {name: scale * own for name, own in others.items()},
    }
    text = json.dumps({f"transformer.{key}": value for key, value in about.items()}, sort_keys=True)
    write = functools.partial(write_tensors, params=tensors, dtype=dtype, metadata={METADATA: text})
    write_files(path.parent, {path.name: write})
    return path
