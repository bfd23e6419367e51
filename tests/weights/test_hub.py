import inspect
import sys
import types

import pytest
import tiny_wan

from sora_jax.weights import find, load, save_diffusers
from sora_jax.weights.hub import PATTERNS, is_hub_name


@pytest.fixture
def hub(monkeypatch):
    """A stand-in for huggingface_hub whose `snapshot_download` the test sets."""
    module = types.ModuleType("huggingface_hub")
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    return module


def cached(folder, root):
    """The folder as the hub's cache keeps it: the weights in blobs/, links to them in snapshots/."""
    blobs, snapshot = root / "blobs", root / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        blob, link = blobs / str(len(list(blobs.iterdir()))), snapshot / file.relative_to(folder)
        blob.write_bytes(file.read_bytes())
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(blob)
    return snapshot


def test_a_name_is_fetched_and_its_links_into_the_cache_are_followed(hub, tmp_path):
    made = tiny_wan.checkpoint("words")
    folder = save_diffusers(tmp_path / "wan", made.config, made.params, made.tokenizer)
    asked = []

    def snapshot_download(name, *, allow_patterns):
        asked.append((name, allow_patterns))
        return str(cached(folder, tmp_path / "models--Wan-AI--Tiny"))

    hub.snapshot_download = snapshot_download
    assert load("Wan-AI/Tiny").config.networks == made.config.networks
    assert asked == [("Wan-AI/Tiny", list(PATTERNS))]


def test_a_folder_comes_before_the_hub(tmp_path, monkeypatch):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert str(find("a/b")) == "a/b"


def test_what_goes_wrong_is_one_sentence(hub, monkeypatch):
    def snapshot_download(name, *, allow_patterns):
        raise ConnectionError("no route.\nmore lines")

    hub.snapshot_download = snapshot_download
    with pytest.raises(
        ValueError, match=r"^there is no folder a/b, and the hub didn't give a/b \(no route\): [^\n]*$"
    ):
        load("a/b")
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(ValueError, match=r"pip install 'sora_jax\[hub\]'"):
        load("a/b")


@pytest.mark.parametrize("name", ["a/b/c", "/a/b", "./a", "../a", "a/..", "a", "a/b.py/", "a\\b", "a b/c"])
def test_paths_are_no_names_of_the_hub(name):
    assert not is_hub_name(name)


def test_no_pattern_lets_a_pickle_through():
    from fnmatch import fnmatch

    for name in ("Wan2.1_VAE.pth", "a/model.bin", "model.pt", "x.pkl", "run.py"):
        assert not any(fnmatch(name, pattern) for pattern in PATTERNS)
    for name in ("vae/a.safetensors", "vae/a.safetensors.index.json", "tokenizer/spiece.model"):
        assert any(fnmatch(name, pattern) for pattern in PATTERNS)


def test_the_real_function_takes_what_it_is_given():
    function = pytest.importorskip("huggingface_hub").snapshot_download
    inspect.signature(function).bind("Wan-AI/Tiny", allow_patterns=list(PATTERNS))
