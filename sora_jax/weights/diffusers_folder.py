"""A published Wan checkpoint in the diffusers layout (a folder a part, each with its config.json) as a `Checkpoint`.

    model_index.json   transformer/   vae/   text_encoder/   tokenizer/   scheduler/
    transformer_2/ where there are two experts   image_encoder/ where the denoiser takes image tokens

Weights are safetensors, in one file or in shards that an index names. Nothing else is opened, pickles least of all.
"""

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sora_jax.models.config import MODELS, ModelConfig
from sora_jax.models.dit import DiTConfig
from sora_jax.models.image import ImageConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.vae import VAEConfig
from sora_jax.weights.diffusers_dit import UNUSED, dit_leaves
from sora_jax.weights.diffusers_image import image_leaves, vision_alone
from sora_jax.weights.diffusers_modules import TRANSFORMER
from sora_jax.weights.diffusers_text import encoder_alone, text_leaves
from sora_jax.weights.diffusers_vae import vae_leaves
from sora_jax.weights.layout import Leaf, Opened, Tensor, check
from sora_jax.weights.shapes import Network
from sora_jax.weights.tensors import StoredTensor, TensorFile

INDEX = "model_index.json"
JSON_LIMIT = 16 * 2**20
"""Bytes of the largest JSON file that is read; the index of a published 14B checkpoint has 0.1 MB."""

DEPTH_LIMIT = 1000
"""Layers or levels of the deepest network that is built."""

SIDE_LIMIT = 4096
"""Pixels along the side of the largest picture that an image encoder is built for."""

FOLDERS = {
    "dit": "transformer",
    "dit_2": "transformer_2",
    "vae": "vae",
    "text": "text_encoder",
    "image": "image_encoder",
}
"""The folder of each network."""

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


class Tensors(Mapping[str, StoredTensor]):
    """The tensors of one part of a checkpoint by name, in one file or in the shards that an index names.

    Raises ValueError when the weights or a shard are missing or broken, an index names a file outside the folder or a
    tensor that its shard lacks, or a shard holds one that the index doesn't name.
    """

    def __init__(self, folder: Path, stems: tuple[str, ...] = ("diffusion_pytorch_model", "model")):
        self._tensors: dict[str, StoredTensor] = {}
        for stem in stems:
            if (index := folder / f"{stem}.safetensors.index.json").is_file():
                return self._open_shards(index)
            if (single := folder / f"{stem}.safetensors").is_file():
                self._tensors = dict(TensorFile(_inside(folder, single.name)))
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
            if tensor not in shards[shard]:
                raise ValueError(f"{index} says that {shard} holds {tensor}, and it doesn't: get both anew.")
            self._tensors[tensor] = shards[shard][tensor]
        for name, file in shards.items():
            if unnamed := [tensor for tensor in file if weight_map.get(tensor) != name]:
                raise ValueError(
                    f"{name} holds {unnamed[0]}, which {index} doesn't name there: get both anew."
                )

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)


def _inside(folder: Path, name: str) -> Path:
    path, root = folder / name, folder.resolve()
    # The hub's cache keeps a repository's files in blobs/, and links to them from snapshots/REVISION/.
    cached = next((parent.parent for parent in root.parents if parent.name == "snapshots"), root)
    inside = any(path.resolve().is_relative_to(place) for place in (root, cached / "blobs"))
    if Path(name).name != name or not inside:
        raise ValueError(f"the weights {name!r} lie outside {folder}: such a checkpoint is not opened.")
    return path


def field(config: Mapping[str, Any], where: Path, name: str, kind: Callable[[Any], Any]) -> Any:
    """`kind` of a config's field; ValueError naming it where it is missing or has no use."""
    try:
        return kind(config[name])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{where}: {name} is missing or has no use ({config.get(name)!r}).") from error


def depth(value: Any) -> int:
    """A count of layers or of latent channels, bounded: ValueError for one that no network has."""
    if int(value) > DEPTH_LIMIT:
        raise ValueError
    return int(value)


def _integers(value: Any) -> tuple[int, ...]:
    depth(len(value))
    return tuple(int(item) for item in value)


def _floats(value: Any) -> tuple[float, ...]:
    return tuple(float(item) for item in value)


def _booleans(value: Any) -> tuple[bool, ...]:
    return tuple(map(bool, value))


def dit_config(path: Path) -> DiTConfig:
    """The denoiser's config from `transformer/config.json`."""
    config = read_json(path)
    if (kind := config.get("_class_name", "WanTransformer3DModel")) not in (
        "WanTransformer3DModel",
        TRANSFORMER,
    ):
        raise ValueError(
            f"{path}: a denoiser of class {kind!r} isn't known; WanTransformer3DModel and {TRANSFORMER} are."
        )

    def integer(name: str) -> int:
        return field(config, path, name, int)

    def optional(name: str) -> int | None:
        return None if config.get(name) is None else integer(name)

    heads, patch = integer("num_attention_heads"), field(config, path, "patch_size", _integers)
    if len(patch) != 3:
        raise ValueError(f"{path}: patch_size is {list(patch)} and must be frames, rows and columns.")
    return DiTConfig(
        in_channels=integer("in_channels"),
        out_channels=integer("out_channels"),
        patch=(patch[0], patch[1], patch[2]),
        width=heads * integer("attention_head_dim"),
        depth=field(config, path, "num_layers", depth),
        heads=heads,
        ffn_width=integer("ffn_dim"),
        text_width=integer("text_dim"),
        freq_width=integer("freq_dim"),
        image_width=optional("image_dim"),
        image_positions=optional("pos_embed_seq_len"),
        eps=field(config, path, "eps", float),
        remat="full",
        neighbours=bool(config.get("neighbours", False)),
        prediction=config.get("prediction", "velocity"),
    )


def vae_config(path: Path) -> VAEConfig:
    """The autoencoder's config from `vae/config.json`."""
    config = read_json(path)
    if config.get("attn_scales"):
        raise ValueError(f"{path}: attn_scales is {config['attn_scales']}; only an empty one is known.")
    base = field(config, path, "base_dim", int)
    return VAEConfig(
        base_width=base,
        decoder_width=int(config.get("decoder_base_dim") or base),
        latent_channels=field(config, path, "z_dim", depth),
        multipliers=field(config, path, "dim_mult", _integers),
        res_blocks=field(config, path, "num_res_blocks", depth),
        temporal_downsample=field(config, path, "temperal_downsample", _booleans),
        spatial_downsample=field({"spatial_downsample": (), **config}, path, "spatial_downsample", _booleans),
        residual_shortcuts=bool(config.get("is_residual", False)),
        patch_size=int(config.get("patch_size") or 1),
        latent_mean=field(config, path, "latents_mean", _floats),
        latent_std=field(config, path, "latents_std", _floats),
    )


def text_config(path: Path, max_length: int = TextConfig.max_length) -> TextConfig:
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
    sizes = {ours: field(config, path, theirs, int) for ours, theirs in names.items()}
    sizes["depth"] = field(config, path, "num_layers", depth)
    eps = field(config, path, "layer_norm_epsilon", float)
    return TextConfig(**sizes, shared_bias=kind == "t5", eps=eps, max_length=max_length)


def _prompt_length(path: Path) -> int:
    """Tokens of the longest prompt, from `tokenizer/tokenizer_config.json`; the pipelines' own where it tells none."""
    told = read_json(path).get("model_max_length") if path.is_file() else None
    longest = TextConfig.max_length
    return int(told) if isinstance(told, int | float) and 1 <= told < longest else longest


def image_config(path: Path) -> ImageConfig:
    """The image encoder's config from `image_encoder/config.json` (a CLIP vision model with GELU)."""
    config = read_json(path)
    if (act := config.get("hidden_act")) != "gelu":
        raise ValueError(f"{path}: hidden_act is {act!r}; only gelu is known.")
    names = {
        "width": "hidden_size",
        "heads": "num_attention_heads",
        "ffn_width": "intermediate_size",
        "patch": "patch_size",
        "size": "image_size",
    }
    sizes = {ours: field(config, path, theirs, int) for ours, theirs in names.items()}
    if sizes["size"] > SIDE_LIMIT:
        raise ValueError(f"{path}: image_size is {sizes['size']} and must be at most {SIDE_LIMIT}.")
    sizes["depth"] = field(config, path, "num_hidden_layers", depth)
    return ImageConfig(**sizes, eps=field(config, path, "layer_norm_eps", float))


def _has(index: Mapping[str, Any], part: str) -> bool:
    return (index.get(part) or [None])[0] is not None


def _form(dit: DiTConfig, vae: VAEConfig) -> tuple[DiTConfig, VAEConfig]:
    """What tells models apart: not how they are trained, nor what their latents are normalised by."""
    zeros, ones = (0.0,) * vae.latent_channels, (1.0,) * vae.latent_channels
    dit = dataclasses.replace(dit, remat="none", unroll=1, init="zero")
    return dit, dataclasses.replace(vae, latent_mean=zeros, latent_std=ones)


def complete(networks: Mapping[str, Any], **settings: Any) -> ModelConfig:
    """A model of these networks; the rest is that of the published model that is most like it.

    `settings` are those of `ModelConfig` that the checkpoint itself tells: None where it doesn't.
    """
    told = {name: value for name, value in settings.items() if value is not None}
    vae, dit = networks["vae"], networks["dit"]
    alike = [
        model
        for model in MODELS.values()
        if _form(model.dit, model.vae) == _form(dit, vae)
        and model.boundary_ratio == settings["boundary_ratio"]
    ]
    # Models of one network differ in the size that they were made for, and so in the shift.
    alike.sort(key=lambda model: model.flow_shift != settings.get("flow_shift"))
    nearest = "wan2_2_ti2v_5b" if vae.residual_shortcuts else "wan2_1_t2v_1_3b"
    model = alike[0] if alike else dataclasses.replace(MODELS[nearest], name="wan")
    defaults = dataclasses.replace(model.defaults, sampler=told.pop("sampler", model.defaults.sampler))
    return dataclasses.replace(model, **networks, **told, defaults=defaults)


def model_config(folder: Path) -> ModelConfig:
    """The config of a diffusers folder; sampling defaults are those of the published model that is most like it."""
    index = read_json(folder / INDEX)
    dit = dit_config(folder / "transformer" / "config.json")
    second = _has(index, "transformer_2")
    boundary = field(index, folder / INDEX, "boundary_ratio", float) if second else None
    if second and dit_config(folder / "transformer_2" / "config.json") != dit:
        raise ValueError(
            f"{folder}: the configs of transformer and transformer_2 differ; only like ones are read."
        )
    networks = {
        "dit": dit,
        "vae": vae_config(folder / "vae" / "config.json"),
        "text": text_config(
            folder / "text_encoder" / "config.json",
            _prompt_length(folder / "tokenizer" / "tokenizer_config.json"),
        ),
        "image": image_config(folder / "image_encoder" / "config.json")
        if _has(index, "image_encoder")
        else None,
    }
    scheduler = read_json(folder / "scheduler" / "scheduler_config.json")
    shift = scheduler.get("flow_shift") or scheduler.get("shift")
    return complete(
        networks,
        boundary_ratio=boundary,
        mask_text=bool(read_json(folder / "transformer" / "config.json").get("mask_text", False)),
        whole_timesteps=True,
        known_frames=bool(index.get("expand_timesteps", False)),
        flow_shift=None if shift is None else field({"shift": shift}, folder / "scheduler", "shift", float),
        sampler=_SAMPLERS.get(str(scheduler.get("_class_name"))),
    )


def open_diffusers(folder: Path) -> Opened:
    """A folder in the diffusers layout, its configs read and its weights' names and shapes checked.

    Raises ValueError for a part that is missing, broken, of a kind that isn't known, or doesn't fit its config.
    """
    config = model_config(folder)
    parts = {}
    for name, network in config.networks.items():
        tensors: Mapping[str, Tensor] = Tensors(folder / FOLDERS[name])
        if name == "text":
            tensors = encoder_alone(tensors)
        elif name == "image":
            tensors = vision_alone(tensors)
        elif isinstance(network, DiTConfig):
            tensors = {key: tensors[key] for key in tensors if UNUSED not in key}
        leaves = leaves_of(network)
        check(tensors, leaves, str(folder / FOLDERS[name]))
        parts[name] = (tensors, leaves)
    return Opened(config=config, tokenizer=folder / "tokenizer" / "spiece.model", parts=parts)


def leaves_of(network: Network) -> dict[str, Leaf]:
    """Where the parameters of any network lie in its published state."""
    if isinstance(network, DiTConfig):
        return dit_leaves(network)
    if isinstance(network, VAEConfig):
        return vae_leaves(network)
    return text_leaves(network) if isinstance(network, TextConfig) else image_leaves(network)
