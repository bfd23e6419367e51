import dataclasses
import errno
import json
import os
import struct

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file

import sora_jax.weights.checkpoint as checkpoint_module
from sora_jax.models.config import MODELS, ModelConfig, SamplingDefaults
from sora_jax.models.dit import DiTConfig
from sora_jax.models.text import TextConfig
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.models.vae import VAEConfig
from sora_jax.weights import Checkpoint, abstract_params, load, save, shapes_of

CONFIG = ModelConfig(
    name="tiny",
    dit=DiTConfig(
        in_channels=4, out_channels=4, patch=(1, 1, 1), width=12, depth=2, heads=2, ffn_width=16, text_width=8
    ),
    vae=VAEConfig(
        base_width=4,
        decoder_width=4,
        latent_channels=4,
        multipliers=(1, 2),
        res_blocks=1,
        temporal_downsample=(True,),
        residual_shortcuts=True,
    ),
    text=TextConfig(vocab=300, width=8, depth=2, heads=2, head_width=4, ffn_width=12, max_length=16),
    flow_shift=2.0,
    defaults=SamplingDefaults(height=8, width=8, frames=5, fps=8.0),
)
FILES = [
    "README.md",
    "config.json",
    "dit.safetensors",
    "text.safetensors",
    "tokenizer.model",
    "vae.safetensors",
]


@pytest.fixture(scope="module")
def made():
    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: rng.standard_normal(x.shape, np.float32), abstract_params(CONFIG))
    model = train_tokenizer(["a red circle moves right"], CONFIG.text.vocab)
    return Checkpoint(config=CONFIG, params=params, tokenizer=Tokenizer(model, CONFIG.text.max_length))


@pytest.fixture
def folder(made, tmp_path):
    return save(tmp_path / "model", made, card="# tiny\n")


def trees_equal(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_what_is_saved_comes_back_whole_at_full_width(made, tmp_path):
    back = load(save(tmp_path / "x", made, dtype=None))
    trees_equal(back.params, made.params)
    assert back.config == made.config
    assert back.tokenizer.model == made.tokenizer.model
    assert back.tokenizer.max_length == 16


def test_shipped_files_are_half_width_and_load_as_float32(made, folder):
    assert sorted(os.listdir(folder)) == FILES
    stored = load_file(folder / "dit.safetensors")
    assert {x.dtype for x in stored.values()} == {np.dtype("float16")}
    assert sorted(stored) == list(shapes_of(made.params["dit"]))
    back = load(folder)
    assert {x.dtype for x in jax.tree.leaves(back.params)} == {np.dtype("float32")}
    trees_equal(back.params, jax.tree.map(lambda x: x.astype(np.float16).astype(np.float32), made.params))
    assert (folder / "README.md").read_text() == "# tiny\n"
    assert (folder / "dit.safetensors").stat().st_mode & 0o777 == 0o644


def test_bfloat16_keeps_its_dtype_when_asked(made, tmp_path):
    half = dataclasses.replace(made, params=jax.tree.map(jnp.bfloat16, made.params))
    back = load(save(tmp_path / "x", half, dtype=None), dtype=None)
    trees_equal(back.params, half.params)
    assert {x.dtype for x in jax.tree.leaves(back.params)} == {jnp.dtype("bfloat16")}


def test_the_same_checkpoint_gives_the_same_files(made, folder, tmp_path):
    again = save(tmp_path / "again", made, card="# tiny\n")
    assert [(again / f).read_bytes() for f in FILES] == [(folder / f).read_bytes() for f in FILES]


def edit_header(path, edit):
    data = path.read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    edit(header)
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])


def rename(header):
    header["unheard/of"] = header.pop("norm/scale")


def reshape(header):
    header["embedding"]["shape"].reverse()


def overreach(header):
    header["embedding"]["data_offsets"][1] += 10_000_000


def overlap(header):
    """Two tensors over the same bytes."""
    header["norm/scale"]["data_offsets"] = [0, 16]


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (overlap, r"text.safetensors is cut short or no safetensors file"),
        (rename, r"lacks norm/scale; it has unknown unheard/of\.$"),
        (reshape, r"wrong shapes: embedding \[8, 300\] for \[300, 8\]\.$"),
        (overreach, r"text.safetensors is cut short or no safetensors file"),
    ],
)
def test_a_lying_header_is_named(folder, edit, match):
    edit_header(folder / "text.safetensors", edit)
    with pytest.raises(ValueError, match=match):
        load(folder)


@pytest.mark.parametrize("keep", [0, 5, 400, -1])
def test_a_file_cut_short_is_named(folder, keep):
    path = folder / "vae.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ValueError, match=r"vae.safetensors is cut short"):
        load(folder)


def test_a_header_of_a_gigabyte_is_not_read(folder):
    path = folder / "vae.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", 2**30))
        file.truncate(2**30 + 8)  # a hole: it takes no room on the disk
    with pytest.raises(ValueError, match=r"vae.safetensors is cut short .*[Hh]eader ?[Tt]oo ?[Ll]arge"):
        load(folder)


@pytest.mark.parametrize("name", [f for f in FILES if f != "README.md"])
def test_an_absent_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ValueError, match=name):
        load(folder)


def test_weights_of_another_config_are_named(folder):
    config = json.loads((folder / "config.json").read_text())
    config["dit"]["width"] = 24
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"dit.safetensors doesn't fit its config: .* and \d+ more\.$"):
        load(folder)


def test_a_field_that_changes_no_shape_may_be_edited(folder):
    config = json.loads((folder / "config.json").read_text())
    config["dit"]["remat"] = "full"
    (folder / "config.json").write_text(json.dumps(config))
    assert load(folder).config.dit.remat == "full"


def test_a_whole_folder_loads_without_tracing_a_network(folder, monkeypatch):
    monkeypatch.setattr(checkpoint_module, "parameter_shapes", None)
    load(folder)


@pytest.mark.parametrize("text", ["", "{", "{}", b"\xff\xfe"], ids=str)
def test_a_config_that_is_none_is_refused(folder, text):
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError, match=r"config\.json"):
        load(folder)


def test_a_tokenizer_too_large_is_refused(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "tokenizer.model").write_bytes(train_tokenizer([" ".join(f"w{i}" for i in range(90))], 340))
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match="340 pieces"):
        load(folder)


def test_unknown_models_are_told_which_there_are(tmp_path):
    for name in ("playgruond", tmp_path / "absent"):
        with pytest.raises(ValueError, match=r"no model or folder .*playground, wan2_1_t2v_1_3b"):
            load(name)
    with pytest.raises(ValueError, match="aren't in this package"):
        load("wan2_1_t2v_14b")
    with pytest.raises(ValueError, match=r"config\.json can't be read"):
        load(tmp_path)


def test_the_shipped_weights_fit_their_config():
    shipped = load("playground")
    expected = abstract_params(shipped.config)
    assert {k: shapes_of(v) for k, v in shipped.params.items()} == {
        k: shapes_of(v) for k, v in expected.items()
    }
    assert shipped.config.name in MODELS


def test_parameters_that_do_not_fit_are_not_saved(made, tmp_path):
    wrong = dict(made.params, text=dict(made.params["text"], embedding=np.zeros((3, 8), np.float32)))
    with pytest.raises(ValueError, match=r"text doesn't fit .*embedding \[3, 8\] for \[300, 8\]"):
        save(tmp_path / "x", dataclasses.replace(made, params=wrong))
    with pytest.raises(ValueError, match="lacks vae"):
        save(tmp_path / "x", dataclasses.replace(made, params={k: made.params[k] for k in ("dit", "text")}))
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e6])
def test_numbers_that_half_width_can_not_hold_are_not_saved(made, tmp_path, value):
    params = jax.tree.map(np.copy, made.params)
    params["text"]["norm"]["scale"][3] = value
    with pytest.raises(ValueError, match="norm/scale holds numbers that float16 can't"):
        save(tmp_path / "a" / "b", dataclasses.replace(made, params=params))
    assert not (tmp_path / "a").exists()


class TestFullDisk:
    """An error at any file leaves the folder as it was."""

    @pytest.fixture(params=[0, 2, 4])
    def full(self, request, monkeypatch):
        import sora_jax.weights.tensors as tensors

        real, calls = os.fsync, []

        def fsync(descriptor):
            calls.append(descriptor)
            if len(calls) > request.param:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            real(descriptor)

        monkeypatch.setattr(tensors.os, "fsync", fsync)

    def test_nothing_new_is_left(self, made, tmp_path, full):
        with pytest.raises(
            ValueError, match=r"can't save to .*: No space left on device; nothing was written\.$"
        ):
            save(tmp_path / "a" / "b", made)
        assert os.listdir(tmp_path) == []

    def test_the_old_one_stays(self, made, folder, full):
        before = {name: (folder / name).read_bytes() for name in os.listdir(folder)}
        other = dataclasses.replace(made, params=jax.tree.map(lambda x: x + 1, made.params))
        with pytest.raises(ValueError, match="nothing was written"):
            save(folder, other)
        assert {name: (folder / name).read_bytes() for name in os.listdir(folder)} == before


def test_a_kill_between_renames_leaves_no_mixed_checkpoint(made, folder, monkeypatch):
    real, calls = os.replace, []

    def replace(source, target):
        calls.append(target)
        if len(calls) == 3:
            raise KeyboardInterrupt
        real(source, target)

    monkeypatch.setattr("sora_jax.weights.tensors.os.replace", replace)
    with pytest.raises(KeyboardInterrupt):
        save(folder, made)
    with pytest.raises(ValueError, match=r"config\.json can't be read"):
        load(folder)
    monkeypatch.undo()
    save(folder, made, card="# tiny\n")
    assert sorted(os.listdir(folder)) == FILES


def test_an_unwritable_place_is_one_sentence(made, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match=r"can't save to .*Not a directory"):
        save(tmp_path / "file" / "model", made)
    (tmp_path / "taken" / "config.json").mkdir(parents=True)
    with pytest.raises(ValueError, match="a folder lies where the file should"):
        save(tmp_path / "taken", made)
    assert os.listdir(tmp_path / "taken") == ["config.json"]
