"""A `Checkpoint` as a folder in the diffusers layout, which its Wan pipelines' `from_pretrained` loads.

Where a network is more than diffusers' own, the Torch class that it is lies beside its weights (`diffusers_modules`),
and diffusers asks for `trust_remote_code=True`.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from sora_jax.models.config import ModelConfig
from sora_jax.models.dit import DiTConfig
from sora_jax.models.image import MEAN, STD, ImageConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.weights import diffusers_modules
from sora_jax.weights.diffusers_folder import FOLDERS, INDEX, leaves_of
from sora_jax.weights.diffusers_modules import AUTOENCODER, MODULES, TRANSFORMER
from sora_jax.weights.layout import scatter
from sora_jax.weights.tensors import write_tensors

VERSION = "0.42.1"
"""The diffusers release whose config fields are written."""

_SCHEDULERS = {
    "unipc": {
        "_class_name": "UniPCMultistepScheduler",
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "solver_order": 2,
        "solver_type": "bh2",
        "final_sigmas_type": "zero",
    },
    "dpmpp": {
        "_class_name": "DPMSolverMultistepScheduler",
        "num_train_timesteps": 1000,
        "prediction_type": "flow_prediction",
        "use_flow_sigmas": True,
        "solver_order": 2,
        "final_sigmas_type": "zero",
    },
    "euler": {"_class_name": "FlowMatchEulerDiscreteScheduler", "num_train_timesteps": 1000},
}


def dit_json(config: DiTConfig, *, mask_text: bool = False) -> dict[str, Any]:
    """The config of `WanTransformer3DModel`, or of our own class where the network is more than that."""
    ours = {"neighbours": config.neighbours, "prediction": config.prediction, "mask_text": mask_text}
    plain = ours == {"neighbours": False, "prediction": "velocity", "mask_text": False}
    return {
        "_class_name": "WanTransformer3DModel" if plain else TRANSFORMER,
        "attention_head_dim": config.head_width,
        "cross_attn_norm": True,
        "eps": config.eps,
        "ffn_dim": config.ffn_width,
        "freq_dim": config.freq_width,
        "in_channels": config.in_channels,
        "num_attention_heads": config.heads,
        "num_layers": config.depth,
        "out_channels": config.out_channels,
        "patch_size": list(config.patch),
        "qk_norm": "rms_norm_across_heads",
        "rope_max_seq_len": 1024,
        "text_dim": config.text_width,
        "image_dim": config.image_width,
        "added_kv_proj_dim": None if config.image_width is None else config.width,
        "pos_embed_seq_len": config.image_positions,
    } | ({} if plain else ours)


def vae_json(config: VAEConfig) -> dict[str, Any]:
    """The config of `AutoencoderKLWan`, or of our own class where some levels keep the height and width.

    ValueError for a network that neither can be.
    """
    plain = all(config.spatial_downsample)
    if not plain and not config.residual_shortcuts:
        raise ValueError(
            "this model's VAE keeps the height and width between two of its levels and has no shortcuts: no class "
            "of diffusers is that, and the model can be saved in the native format only."
        )
    pixels = 3 * config.patch_size**2
    return {
        "_class_name": "AutoencoderKLWan" if plain else AUTOENCODER,
        "attn_scales": [],
        "base_dim": config.base_width,
        "decoder_base_dim": config.decoder_width,
        "dim_mult": list(config.multipliers),
        "dropout": 0.0,
        "in_channels": pixels,
        "is_residual": config.residual_shortcuts,
        "latents_mean": list(config.latent_mean),
        "latents_std": list(config.latent_std),
        "num_res_blocks": config.res_blocks,
        "out_channels": pixels,
        "patch_size": config.patch_size if config.patch_size > 1 else None,
        "scale_factor_spatial": config.spatial_factor,
        "scale_factor_temporal": config.temporal_factor,
        "temperal_downsample": list(config.temporal_downsample),
        "z_dim": config.latent_channels,
    } | ({} if plain else {"spatial_downsample": list(config.spatial_downsample)})


def _text_json(config: TextConfig) -> dict[str, Any]:
    kind = "t5" if config.shared_bias else "umt5"
    return {
        "architectures": ["T5EncoderModel" if config.shared_bias else "UMT5EncoderModel"],
        "d_ff": config.ffn_width,
        "d_kv": config.head_width,
        "d_model": config.width,
        "dense_act_fn": "gelu_new",
        "feed_forward_proj": "gated-gelu",
        "is_gated_act": True,
        "layer_norm_epsilon": config.eps,
        "model_type": kind,
        "num_heads": config.heads,
        "num_layers": config.depth,
        "relative_attention_max_distance": config.max_distance,
        "relative_attention_num_buckets": config.buckets,
        "tie_word_embeddings": False,
        "vocab_size": config.vocab,
    }


def _image_json(config: ImageConfig) -> dict[str, Any]:
    return {
        "architectures": ["CLIPVisionModel"],
        "hidden_act": "gelu",
        "hidden_size": config.width,
        "image_size": config.size,
        "intermediate_size": config.ffn_width,
        "layer_norm_eps": config.eps,
        "model_type": "clip_vision_model",
        "num_attention_heads": config.heads,
        "num_channels": 3,
        "num_hidden_layers": config.depth,
        "patch_size": config.patch,
    }


def _processor_json(config: ImageConfig) -> dict[str, Any]:
    return {
        "image_processor_type": "CLIPImageProcessor",
        "crop_size": {"height": config.size, "width": config.size},
        "do_center_crop": True,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "resample": 3,
        "size": {"shortest_edge": config.size},
    }


def _scheduler_json(config: ModelConfig) -> dict[str, Any]:
    sampler = config.defaults.sampler if config.defaults.sampler in _SCHEDULERS else "unipc"
    return _SCHEDULERS[sampler] | {"shift" if sampler == "euler" else "flow_shift": config.flow_shift}


def _index(config: ModelConfig, classes: Mapping[str, str]) -> dict[str, Any]:
    """`classes` has the name of the class in each folder's config."""
    libraries = {name: MODULES.get(kind, "diffusers") for name, kind in classes.items()}
    index: dict[str, Any] = {
        "_class_name": "WanImageToVideoPipeline" if config.needs_image else "WanPipeline",
        "_diffusers_version": VERSION,
        "boundary_ratio": config.boundary_ratio,
        "expand_timesteps": config.known_frames,
        "text_encoder": ["transformers", "T5EncoderModel" if config.text.shared_bias else "UMT5EncoderModel"],
        "tokenizer": ["transformers", "T5TokenizerFast"],
    } | {name: [libraries[name], kind] for name, kind in classes.items()}
    if config.image is not None:
        index["image_encoder"] = ["transformers", "CLIPVisionModel"]
        index["image_processor"] = ["transformers", "CLIPImageProcessor"]
    return dict(sorted(index.items()))


def _configs(config: ModelConfig) -> dict[str, dict[str, Any]]:
    networks = {
        FOLDERS[name]: dit_json(network, mask_text=config.mask_text)
        for name, network in config.networks.items()
        if isinstance(network, DiTConfig)
    } | {"vae": vae_json(config.vae)}
    scheduler = _scheduler_json(config)
    classes = {folder: value["_class_name"] for folder, value in networks.items()}
    configs = {f"{folder}/config.json": value for folder, value in networks.items()} | {
        "text_encoder/config.json": _text_json(config.text),
        "scheduler/scheduler_config.json": scheduler,
        "tokenizer/tokenizer_config.json": {
            "tokenizer_class": "T5TokenizerFast",
            "extra_ids": 0,
            "model_max_length": config.text.max_length,
        },
        INDEX: _index(config, classes | {"scheduler": scheduler["_class_name"]}),
    }
    if config.image is not None:
        configs["image_encoder/config.json"] = _image_json(config.image)
        configs["image_processor/preprocessor_config.json"] = _processor_json(config.image)
    return configs


def save_diffusers(
    folder: Path, config: ModelConfig, params: dict[str, Any], tokenizer: Tokenizer, dtype: Any = None
) -> Path:
    """Writes the folder, which must not exist yet or be empty, whole or not at all, and returns its path.

    Floating-point parameters are stored as `dtype` (None: each as it is). Raises ValueError when the folder holds
    something, or the model has no form in diffusers.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: name a new folder.")
    configs = _configs(config)
    kinds = {Path(file).parent.name: value.get("_class_name", "") for file, value in configs.items()}
    modules = {part: MODULES[kind] for part, kind in kinds.items() if kind in MODULES}
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for part in {Path(name).parent for name in configs}:
            (partial / part).mkdir(exist_ok=True)
        for name, network in config.networks.items():
            stem = "model" if name in ("text", "image") else "diffusion_pytorch_model"
            state = scatter(params[name], leaves_of(network))
            write_tensors(partial / FOLDERS[name] / f"{stem}.safetensors", state, dtype, {"format": "pt"})
        (partial / "tokenizer" / "spiece.model").write_bytes(tokenizer.model)
        for part, module in modules.items():
            (partial / part / f"{module}.py").write_bytes(diffusers_modules.source(module))
        for file, value in configs.items():
            (partial / file).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)
        os.replace(partial, folder)
    except BaseException as error:
        shutil.rmtree(partial, ignore_errors=True)
        if isinstance(error, OSError | SafetensorError):
            reason = getattr(error, "strerror", None) or str(error).removeprefix("Error while serializing: ")
            raise ValueError(f"can't save to {folder}: {reason}; nothing was written.") from error
        raise
    return folder
