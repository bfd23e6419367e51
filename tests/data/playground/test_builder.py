"""The playground as a Grain source, and as a TFDS dataset written without TensorFlow."""

import sys

import grain
import numpy as np
import pytest
import tensorflow_datasets as tfds

from sora_jax.data.playground.builder import PlaygroundSource, build
from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import draw_scene


def test_elements_are_drawn_from_their_index():
    source = PlaygroundSource(5, seed=2, style="short")
    element = source[3]
    scene = draw_scene(2 * 2**32 + 3)
    assert source.scene_of(3) == scene
    assert element["index"] == 3
    assert element["caption"] == caption(scene, 0, "short")
    np.testing.assert_array_equal(element["video"], render(scene))
    assert len(source) == 5
    assert PlaygroundSource(5, seed=1)[3]["caption"] != element["caption"]


def test_it_feeds_grain():
    source = PlaygroundSource(6, height=32, width=48, frames=5, constraints=(("color", "red"),))
    batch = grain.MapDataset.source(source).shuffle(seed=0).batch(3)[1]
    assert batch["video"].shape == (3, 5, 32, 48, 3)
    assert len(set(batch["index"].tolist())) == 3
    assert all(source.scene_of(i).objects[0].color == "red" for i in batch["index"])


def test_a_share_of_the_scenes_is_hard_and_the_others_stay_as_they_are():
    plain, source = PlaygroundSource(60), PlaygroundSource(60, hard=0.3)
    scenes = [source.scene_of(i) for i in range(60)]
    drawn = [draw_scene(i) for i in range(60)]
    hard = [i for i in range(60) if int((i + 1) * 0.3) > int(i * 0.3)]
    assert len(hard) == 18
    assert all(scenes[i] == drawn[i] == plain.scene_of(i) for i in range(60) if i not in hard)
    assert all(scenes[i].objects[0].motion == "spins" for i in hard[0::3])
    assert all(scenes[i].objects[0].motion == "circles around" for i in hard[1::3])
    assert all(len(scenes[i].objects) == 2 for i in hard[2::3])
    assert len(PlaygroundSource(9, hard=1.0, constraints=(("objects", 1),)).scene_of(2).objects) == 1


def test_wrong_numbers_are_named():
    with pytest.raises(ValueError, match="count 0"):
        PlaygroundSource(0)
    with pytest.raises(ValueError, match="seed -1"):
        PlaygroundSource(3, seed=-1)
    with pytest.raises(ValueError, match=r"hard is 1\.5"):
        PlaygroundSource(3, hard=1.5)
    for index in (-1, 3):
        with pytest.raises(IndexError, match=f"index {index} "):
            PlaygroundSource(3)[index]


def test_a_written_dataset_reads_back(tmp_path):
    folder = build(tmp_path / "d", {"train": 5, "held_out": 2}, seed=4, height=32, width=32, frames=5)
    reader = tfds.builder_from_directory(str(folder))
    train, held_out = (reader.as_data_source(split=name) for name in ("train", "held_out"))
    assert (len(train), len(held_out)) == (5, 2)
    scene = draw_scene(4 * 2**32 + 3)
    element = train[3]
    np.testing.assert_array_equal(element["video"], render(scene, height=32, width=32, frames=5))
    assert element["caption"].decode() == caption(scene, 0, "short")
    assert element["caption_long"].decode() == caption(scene, 0, "long")
    assert (element["index"], element["seed"]) == (3, scene.seed)
    assert draw_scene(int(held_out[1]["seed"]), split="held_out").held_out
    assert list(folder.glob("*.array_record*"))
    assert "tensorflow" not in sys.modules
    assert grain.MapDataset.source(train).batch(5)[0]["video"].shape == (5, 5, 32, 32, 3)
    assert sorted(p.name for p in (tmp_path / "d").iterdir()) == ["playground"]
    assert build(tmp_path / "d", 5) == folder


def test_a_dataset_needs_a_split(tmp_path):
    with pytest.raises(ValueError, match="count is empty"):
        build(tmp_path, {})
