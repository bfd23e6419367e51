"""A published Wan checkpoint in the diffusers layout (a folder a part, each with its config.json) as a `Checkpoint`.

    model_index.json   transformer/   vae/   text_encoder/   tokenizer/   scheduler/

Weights are safetensors, in one file or in shards that an index names. Nothing else is opened, pickles least of all.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from sora_jax.models.config import MODELS, ModelConfig
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.weights.diffusers_dit import from_diffusers_dit
from sora_jax.weights.diffusers_text import from_diffusers_text
from sora_jax.weights.diffusers_vae import from_diffusers_vae
from sora_jax.weights.tensors import TensorFile

INDEX = "model_index.json"
JSON_LIMIT = 16 * 2**20
"""Bytes of the largest JSON file that is read; the index of a published 14B checkpoint has 0.1 MB."""

DEPTH_LIMIT = 1000
"""Layers or levels of the deepest network that is built."""

_SAMPLERS = {
    "UniPCMultistepScheduler": "unipc",
    "DPMSolverMultistepScheduler": "dpmpp",
    "FlowMatchEulerDiscreteScheduler": "euler",
}


def read_json(path: Path) -> dict[str, Any]:
    """An object from a JSON file. ValueError where it is missing, larger than `JSON_LIMIT`, or no JSON object."""
    try:
        if path.stat().st_size > JSON_LIMIT:
            raise ValueError(f"{path} has over {JSON_LIMIT // 2**20} MB, more than any config: get it anew.")
        value = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(
            f"{path} can't be read ({error.strerror}): the folder is no whole checkpoint."
        ) from error
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no JSON ({error}): get it anew.") from error
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object: get it anew.")
    return value


class Tensors(Mapping[str, np.ndarray]):
    """The tensors of one part of a checkpoint by name, each read when it is asked for, floating-point ones as `dtype`.

    Raises ValueError when the weights or a shard are missing or broken, an index names a file outside the folder or a
    tensor that its shard lacks, or a shard holds one that the index doesn't name.
    """

    def __init__(self, folder: Path, dtype: Any = None):
        self._dtype = dtype
        self._file_of: dict[str, TensorFile] = {}
        for stem in ("diffusion_pytorch_model", "model"):
            if (index := folder / f"{stem}.safetensors.index.json").is_file():
                return self._open_shards(index)
            if (single := folder / f"{stem}.safetensors").is_file():
                file = TensorFile(single)
                self._file_of = dict.fromkeys(file.shapes, file)
                return None
        raise ValueError(f"{folder} holds no safetensors weights; other formats are not read.")

    def _open_shards(self, index: Path) -> None:
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict) or not all(
            isinstance(shard, str) for shard in weight_map.values()
        ):
            raise ValueError(f"{index} has no weight_map of tensors to files: get it anew.")
        shards = {name: TensorFile(_inside(index.parent, name)) for name in sorted(set(weight_map.values()))}
        for tensor, shard in weight_map.items():
            if tensor not in shards[shard].shapes:
                raise ValueError(f"{index} says that {shard} holds {tensor}, and it doesn't: get both anew.")
            self._file_of[tensor] = shards[shard]
        for name, file in shards.items():
            if unnamed := [tensor for tensor in file.shapes if weight_map.get(tensor) != name]:
                raise ValueError(
                    f"{name} holds {unnamed[0]}, which {index} doesn't name there: get both anew."
                )

    def __getitem__(self, name: str) -> np.ndarray:
        return self._file_of[name].tensor(name, self._dtype)

    def __iter__(self) -> Iterator[str]:
        return iter(self._file_of)

    def __len__(self) -> int:
        return len(self._file_of)


def _inside(folder: Path, name: str) -> Path:
    path = folder / name
    if Path(name).name != name or not path.resolve().is_relative_to(folder.resolve()):
        raise ValueError(f"the shard {name!r} lies outside {folder}: such a checkpoint is not opened.")
    return path


def _field(config: Mapping[str, Any], where: Path, name: str, kind: Callable[[Any], Any]) -> Any:
    try:
        return kind(config[name])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {name} is missing or has no use ({config.get(name)!r}).") from error


def _depth(value: Any) -> int:
    if int(value) > DEPTH_LIMIT:
        raise ValueError
    return int(value)


def _integers(value: Any) -> tuple[int, ...]:
    _depth(len(value))
    return tuple(int(item) for item in value)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(item) for item in value)


def dit_config(path: Path) -> DiTConfig:
    """The denoiser's config from `transformer/config.json`."""
    config = read_json(path)
    if config.get("image_dim") or config.get("added_kv_proj_dim"):
        raise ValueError(
            f"{path}: a denoiser that takes image features isn't read yet; take a text-to-video one."
        )

    def integer(name: str) -> int:
        return _field(config, path, name, int)

    heads, patch = integer("num_attention_heads"), _field(config, path, "patch_size", _integers)
    if len(patch) != 3:
        raise ValueError(f"{path}: patch_size is {list(patch)} and must be frames, rows and columns.")
    return DiTConfig(
        in_channels=integer("in_channels"),
        out_channels=integer("out_channels"),
        patch=(patch[0], patch[1], patch[2]),
        width=heads * integer("attention_head_dim"),
        depth=_field(config, path, "num_layers", _depth),
        heads=heads,
        ffn_width=integer("ffn_dim"),
        text_width=integer("text_dim"),
        freq_width=integer("freq_dim"),
        eps=_field(config, path, "eps", float),
        remat="full",
    )


def vae_config(path: Path) -> VAEConfig:
    """The autoencoder's config from `vae/config.json`."""
    config = read_json(path)
    if config.get("attn_scales"):
        raise ValueError(f"{path}: attn_scales is {config['attn_scales']}; only an empty one is known.")
    base = _field(config, path, "base_dim", int)
    return VAEConfig(
        base_width=base,
        decoder_width=int(config.get("decoder_base_dim") or base),
        latent_channels=_field(config, path, "z_dim", int),
        multipliers=_field(config, path, "dim_mult", _integers),
        res_blocks=_field(config, path, "num_res_blocks", _depth),
        temporal_downsample=_field(
            config, path, "temperal_downsample", lambda value: tuple(map(bool, value))
        ),
        residual_shortcuts=bool(config.get("is_residual", False)),
        patch_size=int(config.get("patch_size") or 1),
        latent_mean=_field(config, path, "latents_mean", _floats),
        latent_std=_field(config, path, "latents_std", _floats),
    )


def text_config(path: Path) -> TextConfig:
    """The text encoder's config from `text_encoder/config.json` (UMT5 or T5 with gated GELU)."""
    config = read_json(path)
    kind = config.get("model_type")
    if kind not in ("umt5", "t5"):
        raise ValueError(f"{path}: a text encoder of type {kind!r} isn't known; umt5 and t5 are.")
    names = {
        "vocab": "vocab_size",
        "width": "d_model",
        "depth": "num_layers",
        "heads": "num_heads",
        "head_width": "d_kv",
        "ffn_width": "d_ff",
        "buckets": "relative_attention_num_buckets",
        "max_distance": "relative_attention_max_distance",
    }
    sizes = {ours: _field(config, path, theirs, int) for ours, theirs in names.items()}
    sizes["depth"] = _field(config, path, "num_layers", _depth)
    return TextConfig(
        **sizes, shared_bias=kind == "t5", eps=_field(config, path, "layer_norm_epsilon", float)
    )


def model_config(folder: Path) -> ModelConfig:
    """The config of a diffusers folder; sampling defaults are those of the published model that is most like it."""
    index = read_json(folder / INDEX)
    if (index.get("transformer_2") or [None])[0] is not None:
        raise ValueError(f"{folder}: a checkpoint of two experts isn't read yet; take one with one denoiser.")
    dit = dit_config(folder / "transformer" / "config.json")
    vae = vae_config(folder / "vae" / "config.json")
    text = text_config(folder / "text_encoder" / "config.json")
    alike = [model for model in MODELS.values() if (model.dit, model.vae) == (dit, vae)]
    nearest = "wan2_2_ti2v_5b" if vae.residual_shortcuts else "wan2_1_t2v_1_3b"
    model = alike[0] if alike else dataclasses.replace(MODELS[nearest], name="wan")

    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    sampler = _SAMPLERS.get(str(scheduler.get("_class_name")), model.defaults.sampler)
    shift = scheduler.get("flow_shift") or scheduler.get("shift") or model.flow_shift
    return dataclasses.replace(
        model,
        dit=dit,
        vae=vae,
        text=text,
        flow_shift=float(shift),
        defaults=dataclasses.replace(model.defaults, sampler=sampler),
    )


def load_diffusers(folder: Path, dtype: Any = np.float32) -> tuple[ModelConfig, dict[str, Any], Tokenizer]:
    """(config, parameters, tokenizer) of a folder in the diffusers layout, floating-point parameters as `dtype`.

    Raises ValueError for a part that is missing, broken, of a kind that isn't known, or doesn't fit its config.
    """
    config = model_config(folder)
    tokenizer = Tokenizer(folder / "tokenizer" / "spiece.model", config.text.max_length)
    params = {
        "dit": from_diffusers_dit(Tensors(folder / "transformer", dtype), config.dit),
        "vae": from_diffusers_vae(Tensors(folder / "vae", dtype), config.vae),
        "text": from_diffusers_text(Tensors(folder / "text_encoder", dtype), config.text),
    }
    return config, jax.tree.map(np.asarray, params), tokenizer
