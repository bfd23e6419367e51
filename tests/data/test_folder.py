import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from sora_jax.cli import data as command
from sora_jax.data import folder_builder
from sora_jax.data.folder import FolderSource
from sora_jax.data.folder_builder import FolderConfig, build
from sora_jax.data.folder_captions import find_clips
from sora_jax.data.sources import caption_map
from sora_jax.media import Clip

SMALL = FolderConfig(height=16, width=16, frames=5, fps=8.0)


def ramp(t=5, h=16, w=16, start=0):
    """Frame i has the value start + 10 i everywhere."""
    return (start + 10 * np.arange(t, dtype=np.uint8))[:, None, None, None] + np.zeros((1, h, w, 3), np.uint8)


def clip(path, **kwargs):
    path.parent.mkdir(parents=True, exist_ok=True)
    return Clip.from_uint8(ramp(**kwargs), 8.0).save(path)


@pytest.fixture
def clips(tmp_path):
    folder = tmp_path / "clips"
    for index, name in enumerate(["a.webp", "b.gif", "deep/c.mp4", "d.webm"]):
        clip(folder / name, start=index * 50)
        (folder / name).with_suffix(".txt").write_text(
            f"clip {Path(name).stem}\nsecond  phrasing\n\n", "utf-8"
        )
    return folder


def table(folder, rows):
    (folder / "captions.jsonl").write_text("\n".join(json.dumps(row) for row in rows), "utf-8")


def test_a_folder_becomes_a_dataset(clips, tmp_path):
    report = build(clips, tmp_path / "set", SMALL)
    assert (report.counts, report.skipped) == ({"train": 4}, [])
    source = FolderSource(tmp_path / "set")
    assert len(source) == 4
    assert source.fps == 8.0
    for index, (name, start) in enumerate(
        [("a.webp", 0), ("b.gif", 50), ("d.webm", 150), ("deep/c.mp4", 100)]
    ):
        element = source[index]
        assert sorted(element) == ["caption", "index", "video"]
        assert (element["index"], element["caption"]) == (index, f"clip {Path(name).stem}")
        assert source.captions(index) == (f"clip {Path(name).stem}", "second phrasing")
        assert source.name(index) == name
        assert element["video"].dtype == np.uint8
        np.testing.assert_allclose(element["video"].astype(int), ramp(start=start), atol=3)
    draw, rng = caption_map(source), np.random.default_rng(0)
    drawn = {draw({"index": 2}, rng)["caption"] for _ in range(50)}
    assert drawn == {"clip d", "second phrasing"}
    with Image.open(tmp_path / "set" / "preview.png") as preview:
        assert min(preview.size) > 100
    assert sorted(os.listdir(tmp_path)) == ["clips", "set"]


def test_tfds_alone_reads_it(clips, tmp_path):
    build(clips, tmp_path / "set", SMALL)
    source = tfds.builder_from_directory(str(tmp_path / "set")).as_data_source(split="train")
    assert source[0]["video"].shape == (5, 16, 16, 3)


def test_a_source_travels_to_another_process(clips, tmp_path):
    build(clips, tmp_path / "set", SMALL)
    source = pickle.loads(pickle.dumps(FolderSource(tmp_path / "set")))
    assert source[3]["caption"] == "clip c"


def test_groups_stay_on_one_side(tmp_path):
    folder = tmp_path / "clips"
    rows = []
    for index in range(12):
        clip(folder / f"{index:02}.webp", start=index)
        rows.append({"file": f"{index:02}.webp", "caption": f"clip {index}", "group": f"g{index // 3}"})
    table(folder, rows)
    config = FolderConfig(height=16, width=16, frames=5, fps=8.0, test_fraction=0.25)
    assert build(folder, tmp_path / "set", config).counts == {"train": 9, "test": 3}
    sides = {split: FolderSource(tmp_path / "set", split) for split in ("train", "test", "all")}
    groups = {
        split: {int(source[i]["caption"].split()[1]) // 3 for i in range(len(source))}
        for split, source in sides.items()
    }
    assert not groups["train"] & groups["test"]
    assert groups["train"] | groups["test"] == groups["all"] == {0, 1, 2, 3}
    with pytest.raises(ValueError, match="has no split 'held_out': it has test, train"):
        FolderSource(tmp_path / "set", "held_out")
    with pytest.raises(IndexError, match="outside"):
        sides["all"][12]


@pytest.mark.parametrize(
    ("group_by", "groups"),
    [
        (None, ["cat-1.webp", "cat-2.webp", "dog-1.webp"]),
        (r"^(\w+)-", ["cat", "cat", "dog"]),
        (r"\d", ["1", "2", "1"]),
        ("zebra", ["cat-1.webp", "cat-2.webp", "dog-1.webp"]),
        ("artist", ["x", "y", "x"]),
    ],
)
def test_groups_by_column_or_expression(tmp_path, group_by, groups):
    rows = []
    for name, artist in [("cat-1.webp", "x"), ("cat-2.webp", "y"), ("dog-1.webp", "x")]:
        clip(tmp_path / name)
        rows.append({"file": name, "caption": "pet", "artist": artist})
    table(tmp_path, rows)
    assert [found.group for found in find_clips(tmp_path, group_by)[0]] == groups


def test_captions_from_csv_with_several_rows_a_clip(tmp_path):
    clip(tmp_path / "sub" / "a.webp")
    text = '\ufefffile,caption\nsub/a.webp,"red, then blue"\n./sub/a.webp,another\ngone.webp,lost\n'
    (tmp_path / "captions.csv").write_text(text, "utf-8")
    found, problems = find_clips(tmp_path)
    assert found[0].captions == ("red, then blue", "another")
    assert problems == ["gone.webp has a caption but is not in the folder"]


def test_captions_never_reach_outside_the_folder(tmp_path):
    clip(tmp_path / "secret.webp")
    clip(tmp_path / "clips" / "a.webp")
    table(tmp_path / "clips", [{"file": "../secret.webp", "caption": "x"}, {"file": "a.webp", "text": "y"}])
    found, problems = find_clips(tmp_path / "clips")
    assert [one.name for one in found] == ["a.webp"]
    assert problems == ["../secret.webp has a caption but is not in the folder"]


def test_what_cannot_be_used_is_left_out_with_a_sentence(clips, tmp_path):
    (clips / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    (clips / "broken.txt").write_text("broken")
    (clips / "text.gif").write_text("not a picture")
    (clips / "text.txt").write_text("text")
    clip(clips / "mute.webp")
    clip(clips / "brief.webp", t=3)
    (clips / "brief.txt").write_text("brief")
    clip(clips / ".hidden" / "h.webp")
    report = build(clips, tmp_path / "set", SMALL)
    assert report.counts == {"train": 4}
    told = "\n".join(report.skipped)
    assert len(report.skipped) == 4
    assert "mute.webp has no caption: write mute.txt beside it" in told
    assert "brief.webp has 3 frames at 8 fps where 5 are asked for" in told
    assert "broken.mp4 cannot be" in told
    assert "text.gif is no mp4" in told
    assert str(tmp_path) not in told


@pytest.mark.parametrize(("short", "values"), [("freeze", [0, 10, 20, 20, 20]), ("loop", [0, 10, 20, 0, 10])])
def test_short_clips_can_be_filled_up(tmp_path, short, values):
    clip(tmp_path / "clips" / "a.webp", t=3)
    (tmp_path / "clips" / "a.txt").write_text("a")
    build(
        tmp_path / "clips",
        tmp_path / "set",
        FolderConfig(height=16, width=16, frames=5, fps=8.0, short=short),
    )
    assert FolderSource(tmp_path / "set")[0]["video"][:, 0, 0, 0].tolist() == values


def test_all_windows_of_a_long_clip(tmp_path):
    clip(tmp_path / "clips" / "a.webp", t=13)
    (tmp_path / "clips" / "a.txt").write_text("a")
    config = FolderConfig(height=16, width=16, frames=5, fps=8.0, take="all")
    assert build(tmp_path / "clips", tmp_path / "set", config).counts == {"train": 2}
    source = FolderSource(tmp_path / "set")
    assert source[1]["video"][:, 0, 0, 0].tolist() == [50, 60, 70, 80, 90]
    assert source.name(1) == "a.webp#1"


def test_a_test_split_with_nothing_usable_is_left_away(clips, tmp_path, monkeypatch):
    (clips / "broken.mp4").write_bytes(b"\x00\x00\x00\x18ftypmp42")
    (clips / "broken.txt").write_text("broken")
    monkeypatch.setattr(folder_builder, "_test_groups", lambda groups, fraction: {"broken.mp4"})
    assert build(clips, tmp_path / "set", SMALL).counts == {"train": 4}


def test_nothing_usable_is_an_error_and_leaves_nothing(tmp_path):
    (tmp_path / "clips").mkdir()
    with pytest.raises(ValueError, match="holds no clips"):
        build(tmp_path / "clips", tmp_path / "set", SMALL)
    clip(tmp_path / "clips" / "a.webp", t=2)
    (tmp_path / "clips" / "a.txt").write_text("a")
    with pytest.raises(
        ValueError, match=r"can be used for training \(1 left out; the first: a.webp has 2 frames"
    ):
        build(tmp_path / "clips", tmp_path / "set", SMALL)
    assert os.listdir(tmp_path) == ["clips"]


def test_a_kill_half_way_leaves_nothing(clips, tmp_path, monkeypatch):
    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(folder_builder, "_preview", killed)
    with pytest.raises(KeyboardInterrupt):
        build(clips, tmp_path / "set", SMALL)
    assert os.listdir(tmp_path) == ["clips"]


def test_an_old_dataset_is_never_written_over(clips, tmp_path):
    build(clips, tmp_path / "set", SMALL)
    with pytest.raises(FileExistsError, match="exists already"):
        build(clips, tmp_path / "set", SMALL)
    with pytest.raises(FileNotFoundError, match="does not exist: create it"):
        build(clips, tmp_path / "no" / "set", SMALL)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ('{"caption": "x"}', "line 1 names no file"),
        ("[1]", "line 1 is no JSON object"),
        ("\n{", "line 2 is no JSON"),
    ],
)
def test_bad_tables_are_told(tmp_path, text, match):
    clip(tmp_path / "a.webp")
    (tmp_path / "captions.jsonl").write_text(text)
    with pytest.raises(ValueError, match=match):
        find_clips(tmp_path)


def test_bad_settings_are_told(tmp_path):
    clip(tmp_path / "a.webp")
    with pytest.raises(ValueError, match="neither a column nor a regular expression"):
        find_clips(tmp_path, "(")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        find_clips(tmp_path / "none")
    with pytest.raises(ValueError, match="holds no dataset"):
        FolderSource(tmp_path)
    for wrong in ({"frames": 0}, {"fps": 0.0}, {"test_fraction": 1.0}):
        with pytest.raises(ValueError, match="has to be"):
            FolderConfig(**wrong)  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="no colour"):
        FolderConfig(background="reddish")


def test_the_command(clips, tmp_path, capsys):
    (clips / "mute.webp").write_bytes((clips / "a.webp").read_bytes())
    args = command.Folder(folder=clips, out=tmp_path / "set", size="24x16", frames=5)
    assert command.run(args) == 0
    told = capsys.readouterr()
    assert "4 train clips of 5 frames, 24x16, 8 fps" in told.out
    assert "left out: mute.webp has no caption" in told.err
    assert FolderSource(tmp_path / "set")[0]["video"].shape == (5, 16, 24, 3)
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        command.run(command.Folder(folder=clips, out=tmp_path / "b", size="big"))
