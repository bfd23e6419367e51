import importlib.util
import io
import json
import sys
import tarfile
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "experiments" / "fetch_emoji.py"


@pytest.fixture(scope="module")
def emoji():
    spec = importlib.util.spec_from_file_location("fetch_emoji", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fetch_emoji"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    yield module
    del sys.modules["fetch_emoji"]


def archive(path, files, link=None):
    with tarfile.open(path, "w:gz") as file:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
        if link:
            member = tarfile.TarInfo(link)
            member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            file.addfile(member)
    return path


def test_only_plain_small_clips_with_expected_names_are_read(emoji, tmp_path):
    names = ["package/assets/1f600.webp", "package/assets/../1f601.webp", "/package/assets/1f602.webp"]
    files = dict.fromkeys([*names, "package/assets/1f603.webp.sh", "package/assets/a/1f604.webp"], b"clip")
    files["package/assets/1f605.webp"] = b"x" * 200
    path = archive(tmp_path / "a.tgz", files, link="package/assets/1f606.webp")
    assert list(emoji.members(path, emoji.CLIP_NAME, 100)) == [("1f600", b"clip")]


def test_a_package_with_another_hash_is_refused(emoji, tmp_path):
    archive(tmp_path / "thing-1.0.0.tgz", {"a": b"b"})
    with pytest.raises(SystemExit, match="not the package that was expected"):
        emoji.fetch("thing@1.0.0", "wrong", tmp_path)


def test_a_missing_client_is_told(emoji, tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match=r"install Node\.js"):
        emoji.fetch("thing@1.0.0", "", tmp_path)


def test_words_and_groups(emoji, tmp_path):
    tone = {"hexcode": "1F44B-1F3FB", "label": "waving hand: light skin tone"}
    wave = {"hexcode": "1F44B", "label": "waving hand", "tags": ["bye", "hello"], "group": 1, "skins": [tone]}
    tables = {
        "package/en/data.json": json.dumps([wave]).encode(),
        "package/en/messages.json": json.dumps(
            {"groups": [{"order": 1, "message": "people & body"}]}
        ).encode(),
    }
    words = emoji.vocabulary(archive(tmp_path / "words.tgz", tables))
    assert emoji.captions(words["1f44b-1f3fb"]) == [
        "waving hand with light skin tone",
        "an animated emoji of waving hand with light skin tone",
        "waving hand with light skin tone, bye, hello",
        "an animated emoji of waving hand with light skin tone, from people & body",
    ]
    assert emoji.base("1f44b-1f3fb-fe0f") == emoji.base("1f44b") == "1f44b"
