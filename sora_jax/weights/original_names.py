"""The names that the Wan releases give their tensors, from those of diffusers and transformers, or from ours."""

import re
from dataclasses import replace

import numpy as np

from sora_jax.models.image import ImageConfig
from sora_jax.models.vae import VAEConfig
from sora_jax.weights.diffusers_image import image_leaves
from sora_jax.weights.diffusers_vae import vae_leaves
from sora_jax.weights.layout import Index, Leaf, Tensor, leaf

_DIT = (
    (r"condition_embedder\.time_embedder\.linear_1", "time_embedding.0"),
    (r"condition_embedder\.time_embedder\.linear_2", "time_embedding.2"),
    (r"condition_embedder\.time_proj", "time_projection.1"),
    (r"condition_embedder\.text_embedder\.linear_1", "text_embedding.0"),
    (r"condition_embedder\.text_embedder\.linear_2", "text_embedding.2"),
    (r"condition_embedder\.image_embedder\.norm1", "img_emb.proj.0"),
    (r"condition_embedder\.image_embedder\.ff\.net\.0\.proj", "img_emb.proj.1"),
    (r"condition_embedder\.image_embedder\.ff\.net\.2", "img_emb.proj.3"),
    (r"condition_embedder\.image_embedder\.norm2", "img_emb.proj.4"),
    (r"condition_embedder\.image_embedder\.pos_embed", "img_emb.emb_pos"),
    (r"^proj_out", "head.head"),
    (r"^scale_shift_table", "head.modulation"),
    (r"scale_shift_table", "modulation"),
    # The release counts its norms by where they stand in the file, and has the second attention's last.
    (r"(blocks\.\d+)\.norm2", r"\1.norm3"),
    (r"attn1", "self_attn"),
    (r"attn2", "cross_attn"),
    (r"to_out\.0", "o"),
    (r"to_([qkv])\b", r"\1"),
    (r"add_([kv])_proj", r"\1_img"),
    (r"norm_added_k", "norm_k_img"),
    (r"ffn\.net\.0\.proj", "ffn.0"),
    (r"ffn\.net\.2", "ffn.2"),
)
_TEXT = (
    (r"^shared", "token_embedding"),
    (r"^encoder\.final_layer_norm", "norm"),
    (r"^encoder\.block\.", "blocks."),
    (r"layer\.0\.SelfAttention\.relative_attention_bias", "pos_embedding.embedding"),
    (r"layer\.0\.SelfAttention", "attn"),
    (r"layer\.1\.DenseReluDense\.wi_0", "ffn.gate.0"),
    (r"layer\.1\.DenseReluDense\.wi_1", "ffn.fc1"),
    (r"layer\.1\.DenseReluDense\.wo", "ffn.fc2"),
    (r"layer\.0\.layer_norm", "norm1"),
    (r"layer\.1\.layer_norm", "norm2"),
)
_VAE = (
    (r"^unmoments", "conv2"),
    (r"^moments", "conv1"),
    (r"conv_in", "conv1"),
    (r"norm_out", "head/0"),
    (r"conv_out", "head/2"),
    (r"mid/block_0", "middle/0"),
    (r"mid/attention", "middle/1"),
    (r"mid/block_1", "middle/2"),
    (r"qkv\b", "to_qkv"),
    (r"(middle/1)/out", r"\1/proj"),
    (r"sample/space", "sample/resample/1"),
    (r"sample/time", "sample/time_conv"),
    (r"kernel$", "weight"),
    (r"scale$", "gamma"),
)
_IN_BLOCK = (
    ("norm1", "residual/0"),
    ("conv1", "residual/2"),
    ("norm2", "residual/3"),
    ("conv2", "residual/6"),
)
_IMAGE = (
    (r"^vision_model\.", "visual."),
    (r"embeddings\.patch_embedding", "patch_embedding"),
    (r"pre_layrnorm", "pre_norm"),
    (r"post_layernorm", "post_norm"),
    (r"encoder\.layers", "transformer"),
    (r"layer_norm([12])", r"norm\1"),
    (r"self_attn\.out_proj", "attn.proj"),
    (r"mlp\.fc1", "mlp.0"),
    (r"mlp\.fc2", "mlp.2"),
)
_THIRDS = {"q_proj": 0, "k_proj": 1, "v_proj": 2}


def _rename(name: str, rules: tuple[tuple[str, str], ...]) -> str:
    for old, new in rules:
        name = re.sub(old, new, name)
    return name


def renamed_leaves(leaves: dict[str, Leaf], kind: str) -> dict[str, Leaf]:
    """Leaves of a denoiser (`dit`) or a text encoder (`text`) under the release's names."""
    rules = {"dit": _DIT, "text": _TEXT}[kind]
    return {
        path: replace(one, names=tuple(_rename(name, rules) for name in one.names))
        for path, one in leaves.items()
    }


def original_vae_leaves(config: VAEConfig) -> dict[str, Leaf]:
    """Where each parameter of `VAE(config)` lies in the release's state dict."""
    return {path: replace(one, names=(_vae_name(path, config),)) for path, one in vae_leaves(config).items()}


def _vae_name(path: str, config: VAEConfig) -> str:
    # Wan 2.1 lists the blocks of all levels after one another, Wan 2.2 has a list of each level.
    found = re.match(r"(encoder|decoder)/level_(\d+)/(block_(\d+)|downsample|upsample)/", path)
    if found:
        down = found[1] == "encoder"
        blocks = config.res_blocks + (0 if down else 1)
        kind, level = "downsamples" if down else "upsamples", int(found[2])
        inside = blocks if found[4] is None else int(found[4])
        listed = f"{level}/{kind}/{inside}" if config.residual_shortcuts else level * (blocks + 1) + inside
        rest = path[found.end() :]
        rest = rest if found[4] else _rename("sample/" + rest, _VAE).removeprefix("sample/")
        path = f"{found[1]}/{kind}/{listed}/{rest}"
    if "/block_" in path or (found and found[4]):
        for ours, theirs in _IN_BLOCK:
            path = path.replace(f"/{ours}/", f"/{theirs}/")
    return _rename(path, _VAE).replace("/", ".")


def original_image_leaves(config: ImageConfig) -> dict[str, Leaf]:
    """Where each parameter of `ImageEncoder(config)` lies in the release's state dict, split by `split_qkv`."""
    leaves = {}
    for path, one in image_leaves(config).items():
        leaves[path] = replace(one, names=tuple(_image_name(name) for name in one.names))
    width = config.width
    leaves["whole"] = leaf((width,), "visual.cls_embedding", (2,), ndim=3)
    leaves["positions"] = leaf((config.tokens, width), "visual.pos_embedding", (1, 2), ndim=3)
    return leaves


def _image_name(name: str) -> str:
    name = _rename(name, _IMAGE)
    for third, i in _THIRDS.items():
        name = name.replace(f"self_attn.{third}", f"attn.to_qkv[{i}]")
    return name


class Third:
    """Queries, keys or values of a tensor that holds the three after one another along its first axis."""

    def __init__(self, tensor: Tensor, i: int):
        self._tensor, self._size = tensor, tensor.shape[0] // 3
        self._start = i * self._size
        self.shape: tuple[int, ...] = (self._size, *tensor.shape[1:])

    def __getitem__(self, index: Index) -> np.ndarray:
        start, stop, _ = index[0].indices(self._size)
        return self._tensor[(slice(self._start + start, self._start + stop), *index[1:])]


def split_qkv(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """The vision tensors of a CLIP state dict, each fused projection as its three parts."""
    split: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if "attn.to_qkv." in name:
            for i in range(3):
                split[name.replace("to_qkv.", f"to_qkv[{i}].")] = Third(tensor, i)
        elif name.startswith("visual.") and not name.startswith("visual.head"):
            split[name] = tensor
    return split
