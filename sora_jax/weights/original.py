"""A folder as the Wan releases have it:

    config.json  diffusion_pytorch_model*.safetensors     or high_noise_model/ and low_noise_model/ with them
    Wan2.1_VAE  models_t5_umt5-xxl-enc-bf16  models_clip_open-clip-xlm-roberta-large-vit-huge-14
    google/umt5-xxl/spiece.model

The three of the second line are pickles (.pth) in the release, which are never loaded: .safetensors files of the
same stem are read in their place.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sora_jax.models.dit import DiTConfig
from sora_jax.models.image import IMAGE_VIT_H
from sora_jax.models.text import TEXT_UMT5_XXL
from sora_jax.models.vae import VAE_WAN2_1, VAE_WAN2_2
from sora_jax.weights.diffusers_dit import UNUSED, dit_leaves
from sora_jax.weights.diffusers_folder import Tensors, complete, depth, field, read_json
from sora_jax.weights.diffusers_text import text_leaves
from sora_jax.weights.layout import Leaf, Opened, Tensor, check
from sora_jax.weights.original_names import (
    original_image_leaves,
    original_vae_leaves,
    renamed_leaves,
    split_qkv,
)

# The release keeps these sizes in its code.
VAES = {"Wan2.1_VAE": VAE_WAN2_1, "Wan2.2_VAE": VAE_WAN2_2}
TEXT_STEM, TEXT = "models_t5_umt5-xxl-enc-bf16", TEXT_UMT5_XXL
IMAGE_STEM, IMAGE = "models_clip_open-clip-xlm-roberta-large-vit-huge-14", IMAGE_VIT_H
PATCH, TEXT_WIDTH = (1, 2, 2), TEXT_UMT5_XXL.width
EXPERTS = {"dit": "high_noise_model", "dit_2": "low_noise_model"}
BOUNDARIES = {"t2v": 0.875, "i2v": 0.9}


def is_original(folder: Path) -> bool:
    """Whether the folder is laid out as a Wan release: its denoiser's config says of what type it is."""
    if (folder / EXPERTS["dit"] / "config.json").is_file():
        return True
    path = folder / "config.json"
    return path.is_file() and "model_type" in read_json(path)


def open_original(folder: Path) -> Opened:
    """A release's folder, its configs read and its weights' names and shapes checked.

    Raises ValueError for a part that is missing, broken or a pickle, of a kind that isn't known, or that doesn't fit.
    """
    two = (folder / EXPERTS["dit"]).is_dir()
    places = {name: folder / place for name, place in EXPERTS.items()} if two else {"dit": folder}
    denoisers = {name: _open_dit(place) for name, place in places.items()}
    if len({dit for _, dit, _ in denoisers.values()}) != 1:
        raise ValueError(f"{folder}: the two experts have configs that differ; only like ones are read.")
    kind, dit, _ = denoisers["dit"]
    stem = next((stem for stem in VAES if _file(folder, stem)), next(iter(VAES)))
    image = None if dit.image_width is None else IMAGE
    config = complete(
        {"dit": dit, "vae": VAES[stem], "text": TEXT, "image": image},
        boundary_ratio=BOUNDARIES.get(kind) if two else None,
        known_frames=kind == "ti2v",
    )
    parts: dict[str, tuple[Mapping[str, Tensor], Mapping[str, Leaf]]] = {
        name: tensors for name, (_, _, tensors) in denoisers.items()
    }
    parts["vae"] = _part(_state(folder, stem), original_vae_leaves(config.vae), folder / stem)
    leaves = renamed_leaves(text_leaves(config.text), "text")
    parts["text"] = _part(_state(folder, TEXT_STEM), leaves, folder / TEXT_STEM)
    if image is not None:
        tensors = split_qkv(dict(_state(folder, IMAGE_STEM)))
        parts["image"] = _part(tensors, original_image_leaves(image), folder / IMAGE_STEM)
    return Opened(config=config, tokenizer=folder / "google" / "umt5-xxl" / "spiece.model", parts=parts)


def _open_dit(folder: Path) -> tuple[str, DiTConfig, Any]:
    """(type, config, its part) of a denoiser's folder."""
    path = folder / "config.json"
    config, tensors = read_json(path), Tensors(folder)
    kind = config.get("model_type")
    if kind not in ("t2v", "i2v", "ti2v", "flf2v"):
        raise ValueError(f"{path}: a denoiser of type {kind!r} isn't known; t2v, i2v, flf2v and ti2v are.")
    names = {
        "in_channels": "in_dim",
        "out_channels": "out_dim",
        "width": "dim",
        "heads": "num_heads",
        "ffn_width": "ffn_dim",
        "freq_width": "freq_dim",
    }
    sizes: dict[str, Any] = {ours: field(config, path, theirs, int) for ours, theirs in names.items()}
    sizes["depth"] = field(config, path, "num_layers", depth)
    # Wan 2.1 and 2.2 both say i2v; only the former's weights have an image branch.
    first, places = tensors.get("img_emb.proj.0.weight"), tensors.get("img_emb.emb_pos")
    dit = DiTConfig(
        **sizes,
        patch=PATCH,
        text_width=TEXT_WIDTH,
        image_width=None if first is None else first.shape[0],
        image_positions=None if places is None else places.shape[1],
        eps=field(config, path, "eps", float),
        remat="full",
    )
    kept = {name: tensors[name] for name in tensors if UNUSED not in name}
    return kind, dit, _part(kept, renamed_leaves(dit_leaves(dit), "dit"), folder)


def _part(tensors: Mapping[str, Tensor], leaves: dict[str, Leaf], where: Path) -> Any:
    check(tensors, leaves, str(where))
    return tensors, leaves


def _file(folder: Path, stem: str) -> bool:
    return any((folder / f"{stem}{ending}").is_file() for ending in (".safetensors", ".pth"))


def _state(folder: Path, stem: str) -> Tensors:
    pickle, file = folder / f"{stem}.pth", f"{stem}.safetensors"
    if pickle.is_file() and not (folder / file).is_file():
        load = f"torch.load('{pickle.name}', weights_only=True)"
        raise ValueError(
            f"{pickle} is a pickle, which can hold code and is never loaded: convert it in {folder} with Torch, "
            f'python -c "import torch; from safetensors.torch import save_file; '
            f"save_file({{k: v.contiguous() for k, v in {load}.items()}}, '{file}')\", or take the same model in "
            "the diffusers layout."
        )
    if not _file(folder, stem):
        raise ValueError(
            f"{folder / file} is missing: take the same model in the diffusers layout (its name ends in -Diffusers), "
            "or convert the release's .pth."
        )
    return Tensors(folder, (stem,))
