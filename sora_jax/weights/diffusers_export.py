"""A `Checkpoint` as a folder in the diffusers layout, which diffusers' `WanPipeline.from_pretrained` loads."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from sora_jax.models.config import ModelConfig
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.weights.diffusers_dit import to_diffusers_dit
from sora_jax.weights.diffusers_folder import INDEX
from sora_jax.weights.diffusers_text import to_diffusers_text
from sora_jax.weights.diffusers_vae import to_diffusers_vae
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


def _dit_json(config: DiTConfig) -> dict[str, Any]:
    if config.prediction != "velocity":
        raise ValueError(
            "this model's denoiser predicts the clean clip, which diffusers' WanTransformer3DModel can't: it can "
            "be saved in the native format only."
        )
    return {
        "_class_name": "WanTransformer3DModel",
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
    }


def _vae_json(config: VAEConfig) -> dict[str, Any]:
    if not all(config.spatial_downsample):
        raise ValueError(
            "this model's VAE keeps the height and width between two of its levels, which diffusers' AutoencoderKLWan "
            "can't: the model can be saved in the native format only."
        )
    pixels = 3 * config.patch_size**2
    return {
        "_class_name": "AutoencoderKLWan",
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
    }


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


def save_diffusers(
    folder: Path, config: ModelConfig, params: dict[str, Any], tokenizer: Tokenizer, dtype: Any = None
) -> Path:
    """Writes the folder, which must not exist yet or be empty, whole or not at all, and returns its path.

    Floating-point parameters are stored as `dtype` (None: each as it is). Raises ValueError when the folder holds
    something, or the model has no form in diffusers.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} holds something already: name a new folder.")
    sampler = config.defaults.sampler if config.defaults.sampler in _SCHEDULERS else "unipc"
    shift = "shift" if sampler == "euler" else "flow_shift"
    scheduler = _SCHEDULERS[sampler] | {shift: config.flow_shift}
    text_class = "T5EncoderModel" if config.text.shared_bias else "UMT5EncoderModel"
    index = {
        "_class_name": "WanPipeline",
        "_diffusers_version": VERSION,
        "scheduler": ["diffusers", scheduler["_class_name"]],
        "text_encoder": ["transformers", text_class],
        "tokenizer": ["transformers", "T5TokenizerFast"],
        "transformer": ["diffusers", "WanTransformer3DModel"],
        "vae": ["diffusers", "AutoencoderKLWan"],
    }
    configs = {
        "transformer/config.json": _dit_json(config.dit),
        "vae/config.json": _vae_json(config.vae),
        "text_encoder/config.json": _text_json(config.text),
        "scheduler/scheduler_config.json": scheduler,
        "tokenizer/tokenizer_config.json": {
            "tokenizer_class": "T5TokenizerFast",
            "extra_ids": 0,
            "model_max_length": config.text.max_length,
        },
        INDEX: index,
    }
    states = {
        "transformer/diffusion_pytorch_model": to_diffusers_dit(params["dit"], config.dit),
        "vae/diffusion_pytorch_model": to_diffusers_vae(params["vae"], config.vae),
        "text_encoder/model": to_diffusers_text(params["text"], config.text),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        for part in ("transformer", "vae", "text_encoder", "tokenizer", "scheduler"):
            (partial / part).mkdir()
        for name, state in states.items():
            write_tensors(partial / f"{name}.safetensors", state, dtype, {"format": "pt"})
        (partial / "tokenizer" / "spiece.model").write_bytes(tokenizer.model)
        for name, value in configs.items():
            (partial / name).write_text(json.dumps(value, indent=2) + "\n", encoding="utf-8")
        partial.chmod(0o755)
        os.replace(partial, folder)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return folder
