"""Folders as the Wan releases lay them out, written here under the names that their code gives the tensors."""

import json

import jax
import numpy as np
import pytest
import tiny_wan
from safetensors.numpy import load_file, save_file

from sora_jax.models.vae import VAE_WAN2_1, VAE_WAN2_2
from sora_jax.weights import load, original
from sora_jax.weights.diffusers_dit import dit_leaves, to_diffusers_dit
from sora_jax.weights.diffusers_text import text_leaves
from sora_jax.weights.layout import scatter
from sora_jax.weights.original_names import original_image_leaves, original_vae_leaves, renamed_leaves


@pytest.fixture(autouse=True)
def toy_sizes(monkeypatch):
    """The release's code has the sizes; these are the toys'."""
    words = tiny_wan.WORDS
    monkeypatch.setattr(original, "VAES", {"Wan2.1_VAE": words.vae})
    monkeypatch.setattr(original, "TEXT", words.text)
    monkeypatch.setattr(original, "TEXT_WIDTH", words.text.width)
    monkeypatch.setattr(original, "IMAGE", tiny_wan.CONFIGS["image tokens"].image)


def fused(state):
    """Queries, keys and values as the one tensor that the release has."""
    parts = {name: array for name, array in state.items() if "to_qkv[" in name}
    whole = {name: array for name, array in state.items() if name not in parts}
    for name in {name.replace(name[name.index("[") : name.index("]") + 1], "") for name in parts}:
        whole[name] = np.concatenate([parts[name.replace("to_qkv", f"to_qkv[{i}]")] for i in range(3)])
    return whole


def write(folder, kind, model_type):
    made = tiny_wan.checkpoint(kind)
    config, dit = made.config, made.config.dit
    two = config.boundary_ratio is not None
    places = {"dit": "high_noise_model", "dit_2": "low_noise_model"} if two else {"dit": "."}
    for name, place in places.items():
        (folder / place).mkdir(parents=True, exist_ok=True)
        state = scatter(made.params[name], renamed_leaves(dit_leaves(dit), "dit"))
        save_file(state, folder / place / "diffusion_pytorch_model.safetensors")
        about = {
            "model_type": model_type,
            "dim": dit.width,
            "eps": dit.eps,
            "ffn_dim": dit.ffn_width,
            "freq_dim": dit.freq_width,
            "in_dim": dit.in_channels,
            "num_heads": dit.heads,
            "num_layers": dit.depth,
            "out_dim": dit.out_channels,
            "text_len": 512,
        }
        (folder / place / "config.json").write_text(json.dumps(about))
    vae = scatter(made.params["vae"], original_vae_leaves(config.vae))
    save_file(vae, folder / "Wan2.1_VAE.safetensors")
    text = scatter(made.params["text"], renamed_leaves(text_leaves(config.text), "text"))
    save_file(text, folder / f"{original.TEXT_STEM}.safetensors")
    if config.image is not None:
        image = fused(scatter(made.params["image"], original_image_leaves(config.image)))
        image |= {"log_scale": np.zeros(1, np.float32), "visual.head": np.zeros((2, 2), np.float32)}
        save_file(image, folder / f"{original.IMAGE_STEM}.safetensors")
    (folder / "google" / "umt5-xxl").mkdir(parents=True)
    (folder / "google" / "umt5-xxl" / "spiece.model").write_bytes(made.tokenizer.model)
    return made


@pytest.mark.parametrize(
    ("kind", "model_type"),
    [
        ("words", "t2v"),
        ("first frame known", "ti2v"),
        ("two images", "flf2v"),
        ("experts", "t2v"),
        ("image beside, experts", "i2v"),
    ],
)
def test_a_release_is_the_same_model(tmp_path, kind, model_type):
    made = write(tmp_path, kind, model_type)
    read = load(tmp_path)
    assert read.config.networks == made.config.networks
    assert read.config.boundary_ratio == made.config.boundary_ratio
    assert read.config.known_frames == made.config.known_frames
    assert not read.config.mask_text
    jax.tree.map(np.testing.assert_array_equal, read.params, made.params)


def test_a_pickle_is_named_with_the_way_round_it(tmp_path):
    write(tmp_path, "words", "t2v")
    (tmp_path / "Wan2.1_VAE.safetensors").rename(tmp_path / "Wan2.1_VAE.pth")
    with pytest.raises(
        ValueError, match=r"Wan2\.1_VAE\.pth is a pickle, .* never loaded: .*weights_only=True"
    ):
        load(tmp_path)
    (tmp_path / "Wan2.1_VAE.pth").unlink()
    with pytest.raises(ValueError, match=r"Wan2\.1_VAE\.safetensors is missing"):
        load(tmp_path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model_type": "vace"}, "type 'vace' isn't known"),
        ({"num_layers": 3}, r"lacks blocks\.2\."),
        ({"num_layers": 10**9}, "num_layers is missing or has no use"),
        ({"dim": None}, "dim is missing or has no use"),
    ],
)
def test_a_config_that_does_not_fit_is_refused(tmp_path, changes, says):
    write(tmp_path, "words", "t2v")
    path = tmp_path / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(ValueError, match=says):
        load(tmp_path)


def names(leaves):
    return {name for leaf in leaves.values() for name in leaf.names}


def test_names_are_the_releases():
    """Some of each kind, as their code spells them."""
    dit = names(renamed_leaves(dit_leaves(tiny_wan.CONFIGS["two images"].dit), "dit"))
    assert dit >= {
        *(
            "patch_embedding.weight",
            "time_embedding.0.weight",
            "time_projection.1.bias",
            "text_embedding.2.weight",
        ),
        *("head.head.weight", "head.modulation", "blocks.1.modulation", "blocks.0.self_attn.norm_q.weight"),
        *(
            "blocks.0.self_attn.o.bias",
            "blocks.1.norm3.weight",
            "blocks.1.ffn.0.weight",
            "blocks.1.ffn.2.bias",
        ),
        *("blocks.0.cross_attn.k_img.weight", "blocks.0.cross_attn.norm_k_img.weight", "img_emb.emb_pos"),
        *("img_emb.proj.0.weight", "img_emb.proj.1.bias", "img_emb.proj.3.weight", "img_emb.proj.4.bias"),
    }
    text = names(renamed_leaves(text_leaves(tiny_wan.WORDS.text), "text"))
    assert text >= {
        *("token_embedding.weight", "norm.weight", "blocks.1.pos_embedding.embedding.weight"),
        *("blocks.0.attn.q.weight", "blocks.0.ffn.gate.0.weight", "blocks.0.ffn.fc1.weight"),
        *("blocks.0.ffn.fc2.weight", "blocks.0.norm1.weight", "blocks.0.norm2.weight"),
    }
    vae = names(original_vae_leaves(VAE_WAN2_2))
    assert vae >= {
        *(
            "encoder.conv1.weight",
            "conv1.weight",
            "conv2.bias",
            "decoder.head.0.gamma",
            "decoder.head.2.weight",
        ),
        *("encoder.downsamples.1.downsamples.0.residual.0.gamma", "encoder.middle.1.to_qkv.weight"),
        *("encoder.downsamples.1.downsamples.2.time_conv.weight", "encoder.middle.2.residual.6.bias"),
        *(
            "decoder.upsamples.0.upsamples.3.resample.1.weight",
            "encoder.downsamples.1.downsamples.0.shortcut.weight",
        ),
    }


@pytest.mark.parity
def test_the_names_are_those_that_diffusers_converts():
    tools = pytest.importorskip("diffusers.loaders.single_file_utils")
    made = tiny_wan.checkpoint("image tokens")
    leaves = dit_leaves(made.config.dit)
    theirs = tools.convert_wan_transformer_to_diffusers(
        scatter(made.params["dit"], renamed_leaves(leaves, "dit"))
    )
    want = to_diffusers_dit(made.params["dit"], made.config.dit)
    assert set(theirs) == set(want)
    for name, array in want.items():
        np.testing.assert_array_equal(theirs[name], array)
    from sora_jax.weights.diffusers_vae import vae_leaves

    ours = original_vae_leaves(VAE_WAN2_1)
    converted = tools.convert_wan_vae_to_diffusers({leaf.names[0]: path for path, leaf in ours.items()})
    assert converted == {leaf.names[0]: path for path, leaf in vae_leaves(VAE_WAN2_1).items()}


def test_every_part_is_read_back_from_its_file(tmp_path):
    """Breaking one number of a fused projection changes just the values."""
    made = write(tmp_path, "image tokens", "i2v")
    path = tmp_path / f"{original.IMAGE_STEM}.safetensors"
    state = load_file(path)
    state["visual.transformer.1.attn.to_qkv.weight"][-1, 3] += 1
    save_file(state, path)
    read = load(tmp_path).params["image"]["blocks"]
    changed = read["value"]["kernel"] - made.params["image"]["blocks"]["value"]["kernel"]
    assert np.flatnonzero(changed).tolist() == [changed[0].size + 3 * 12 + 11]
    np.testing.assert_array_equal(read["key"]["kernel"], made.params["image"]["blocks"]["key"]["kernel"])
