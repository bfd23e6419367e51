"""Folders of clips on the way to training: which are used, at which size, and what is kept on disk."""

import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from sora_jax.data import clips as clips_module
from sora_jax.data.clips import ClipsConfig, prepare
from sora_jax.data.pipeline import bucketed_batches
from sora_jax.media import Clip

MADE_FROM = {"vae": "v", "text": "t"}


def draw(path, frames, height, width, value=0.0):
    rng = np.random.default_rng(0)
    video = np.clip(value + 0.1 * rng.standard_normal((frames, height, width, 3)), -1, 1)
    Clip(video.astype(np.float32), 8.0).save(path)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clips")
    sizes = {"wide": (9, 32, 64), "wide_too": (12, 34, 64), "tall": (9, 64, 32), "short": (6, 48, 48)}
    for name, size in sizes.items():
        draw(folder / f"{name}.mp4", *size)
        (folder / f"{name}.txt").write_text(f"{name}\nanother {name}\n")
    draw(folder / "tiny.mp4", 2, 32, 32)
    (folder / "tiny.txt").write_text("too short")
    draw(folder / "mute.mp4", 9, 32, 32)
    draw(folder / "empty.mp4", 9, 32, 32)
    (folder / "empty.txt").write_text(" \n")
    (folder / "broken.mp4").write_bytes((folder / "wide.mp4").read_bytes()[:200])
    (folder / "broken.txt").write_text("broken")
    return folder


@pytest.fixture
def folder(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "clips")


class Encoders:
    """Networks' stand-ins that count what they are asked for."""

    def __init__(self):
        self.sizes, self.captions = [], []

    def clip(self, video):
        assert video.dtype == np.uint8
        self.sizes += [video.shape[1:4]] * len(video)
        return video[:, ::4, ::8, ::8].astype(np.float32) / 255

    def text(self, captions):
        self.captions += captions
        return [np.full((1 + len(text.split()), 3), len(text), np.float32) for text in captions]


class Hosts:
    """So many threads that meet as hosts do."""

    def __init__(self, count):
        self.count, self.given = count, {}
        self.barrier = threading.Barrier(count)

    def at(self, host):
        def together(value):
            self.given[host] = json.loads(json.dumps(value))
            self.barrier.wait(60)
            given = [self.given[i] for i in range(self.count)]
            self.barrier.wait(60)
            return given

        return {"host": host, "hosts": self.count, "together": together}

    def run(self, work):
        """What `work(host, options)` gives, or raises, on each host."""

        def one(host):
            try:
                return work(host, self.at(host))
            except Exception as error:
                return error

        with ThreadPoolExecutor(self.count) as threads:
            return list(threads.map(one, range(self.count)))


def go(folder, cache, encoders=None, made_from=MADE_FROM, options=None, **fields):
    encoders = encoders or Encoders()
    config = ClipsConfig(
        **{
            "folder": str(folder),
            "height": 32,
            "width": 64,
            "frames": 9,
            "fps": 8.0,
            "aspects": ("1:2", "1:1"),
            "lengths": (5,),
        }
        | fields
    )
    return prepare(
        config,
        cache,
        temporal_factor=4,
        grid=16,
        encode=encoders.clip,
        encode_text=encoders.text,
        made_from=made_from,
        **(options or {}),
    )


def test_every_clip_goes_to_its_bucket_and_the_others_are_named(folder, tmp_path):
    encoders = Encoders()
    made = go(folder, tmp_path / "cache", encoders)
    sizes = {s.bucket: [s[i]["captions"][0] for i in range(len(s))] for s in made.sources}
    assert sizes[(9, 32, 64)] == ["wide", "wide_too"]
    assert sizes[(9, 64, 32)] == ["tall"]
    assert sorted(encoders.sizes) == sorted([(9, 32, 64), (9, 32, 64), (9, 64, 32), (5, 48, 64)])
    names = ("wide", "wide_too", "tall", "short")
    assert set(encoders.captions) == {"", *names, *(f"another {name}" for name in names)}
    for name, says in {
        "tiny.mp4": "has 2 frames at 8 fps and the shortest bucket 5",
        "mute.mp4": "no caption",
        "empty.mp4": "no caption",
        "broken.mp4": "holds no video",
    }.items():
        assert any(one.startswith(name) and says in one for one in made.skipped), made.skipped
    assert len(made.skipped) == 4
    np.testing.assert_array_equal(made.features("wide"), np.full((2, 3), 4.0))
    assert made.sources[0][0]["latents"].shape == (3, 4, 8, 3)


def test_nothing_is_encoded_twice_and_new_clips_are(folder, tmp_path):
    first = go(folder, tmp_path / "cache")
    again = Encoders()
    assert go(folder, tmp_path / "cache", again).digest == first.digest
    assert (again.sizes, again.captions) == ([], [])
    draw(folder / "new.mp4", 9, 32, 64)
    (folder / "new.txt").write_text("new")
    more = Encoders()
    assert go(folder, tmp_path / "cache", more).digest != first.digest
    assert (more.sizes, more.captions) == ([(9, 32, 64)], ["new"])
    draw(folder / "new.mp4", 9, 32, 64, 0.5)
    os.utime(folder / "new.mp4", ns=(1, 1))
    changed = Encoders()
    go(folder, tmp_path / "cache", changed)
    assert (changed.sizes, changed.captions) == ([(9, 32, 64)], [])


def test_a_stale_cache_is_refused(folder, tmp_path):
    go(folder, tmp_path / "cache")
    with pytest.raises(ValueError, match=r"latents in .* another vae"):
        go(folder, tmp_path / "cache", made_from={"vae": "other", "text": "t"})
    with pytest.raises(ValueError, match=r"text features in .* another text"):
        go(folder, tmp_path / "cache", made_from={"vae": "v", "text": "other"})
    with pytest.raises(ValueError, match="another fps"):
        go(folder, tmp_path / "cache", fps=4.0)


def test_features_that_diverged_are_not_kept(folder, tmp_path):
    encoders = Encoders()
    encoders.text = lambda captions: [np.full((1, 3), 1e6, np.float32)]
    with pytest.raises(ValueError, match=r"the caption '' can't be encoded: .*float16"):
        go(folder, tmp_path / "cache", encoders)
    assert [path.name for path in (tmp_path / "cache" / "text").iterdir()] == ["cache.json"]


def test_a_folder_without_a_usable_clip_is_refused(folder, tmp_path):
    for name in ("wide", "wide_too", "tall", "short"):
        (folder / f"{name}.txt").unlink()
    with pytest.raises(ValueError, match=r"no clip of .* \(8 left out; the first: .*no caption"):
        go(folder, tmp_path / "cache")
    with pytest.raises(ValueError, match="no folder is named"):
        ClipsConfig(folder="")
    with pytest.raises(FileNotFoundError, match="there is no folder"):
        go(tmp_path / "absent", tmp_path / "other")


def test_hosts_encode_a_part_each_and_return_the_same_when_all_is_there(folder, tmp_path):
    alone, encoders = Encoders(), [Encoders(), Encoders()]
    one = go(folder, tmp_path / "one", alone)

    def work(host, options):
        made = go(folder, tmp_path / "two", encoders[host], options={**options, "at_once": 2})
        latents = [[source[i]["latents"] for i in range(len(source))] for source in made.sources]
        return made, latents, [made.features(text) for text in alone.captions]

    for made, latents, features in Hosts(2).run(work):
        assert made.digest == one.digest
        assert made.skipped == one.skipped
        for caption, found in zip(alone.captions, features, strict=True):
            np.testing.assert_array_equal(found, one.features(caption))
        for source, found, want in zip(made.sources, latents, one.sources, strict=True):
            for i in range(len(want)):
                np.testing.assert_array_equal(found[i], want[i]["latents"])
                assert (source[i]["index"], source[i]["captions"]) == (want[i]["index"], want[i]["captions"])
    for encoded in encoders:
        assert 0 < len(encoded.sizes) < 4
        assert 0 < len(encoded.captions) < 9
    assert sorted(encoders[0].sizes + encoders[1].sizes) == sorted(alone.sizes)
    assert sorted(encoders[0].captions + encoders[1].captions) == sorted(alone.captions)


def test_hosts_look_at_a_part_each(folder, tmp_path, monkeypatch):
    looks, size = [], clips_module._size
    monkeypatch.setattr(
        clips_module, "_size", lambda path, *rest: looks.append(path.name) or size(path, *rest)
    )
    Hosts(3).run(lambda _, options: go(folder, tmp_path / "cache", options=options))
    assert sorted(looks) == ["broken.mp4", "short.mp4", "tall.mp4", "tiny.mp4", "wide.mp4", "wide_too.mp4"]
    looks.clear()
    Hosts(3).run(lambda _, options: go(folder, tmp_path / "cache", options=options))
    assert looks == ["broken.mp4"]


def test_what_one_host_can_t_encode_stops_all_and_is_named(folder, tmp_path):
    def work(host, options):
        encoders = Encoders()
        if host:
            encoders.clip = lambda video: np.full((len(video), 1, 1, 1, 1), np.nan, np.float32)
        return go(folder, tmp_path / "cache", encoders, options=options)

    for error in Hosts(2).run(work):
        assert isinstance(error, ValueError)
        assert "mp4 can't be encoded: " in str(error)


def test_hosts_that_share_no_disk_are_told(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(clips_module, "SEEN_WITHIN", 0.05)
    apart = Hosts(2).run(lambda host, options: go(folder, tmp_path / str(host), options=options))
    assert all("aren't in" in str(error) and "all hosts share" in str(error) for error in apart), apart
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "wide.txt").write_text("something else")
    apart = Hosts(2).run(lambda host, options: go([folder, other][host], tmp_path / "cache", options=options))
    assert all("different clips" in str(error) for error in apart), apart


def with_features(prepared):
    def choose(example, rng):
        caption = example["captions"][int(rng.integers(len(example["captions"])))]
        return {"latents": example["latents"], "text": prepared.features(caption).mean(axis=0)}

    return choose


def test_a_batch_is_of_one_bucket_and_a_resumed_run_reads_on(folder, tmp_path):
    made = go(folder, tmp_path / "cache")

    def start(host=0, hosts=1):
        return bucketed_batches(
            made.sources, batch_size=4, seed=1, random_maps=[with_features(made)], host=host, hosts=hosts
        )

    whole = start()
    seen = [next(whole) for _ in range(12)]
    shapes = [batch["latents"].shape for batch in seen]
    assert {shape[1:] for shape in shapes} == {(3, 4, 8, 3), (3, 8, 4, 3), (2, 6, 8, 3)}
    assert shapes.count((4, 3, 4, 8, 3)) == 6  # half of the clips
    parts = start()
    for _ in range(5):
        next(parts)
    state = parts.get_state()
    resumed = start()
    resumed.set_state(state)
    for batch in seen[5:]:
        after = next(resumed)
        np.testing.assert_array_equal(after["latents"], batch["latents"])
        np.testing.assert_array_equal(after["text"], batch["text"])
    hosts = [start(host, 2) for host in range(2)]
    for batch in seen[:4]:
        halves = [next(one)["latents"] for one in hosts]
        assert [half.shape for half in halves] == [(2, *batch["latents"].shape[1:])] * 2


def test_batches_that_can_t_be_are_refused(folder, tmp_path):
    made = go(folder, tmp_path / "cache")
    with pytest.raises(ValueError, match="doesn't divide over 3 hosts"):
        bucketed_batches(made.sources, batch_size=4, seed=0, hosts=3)
    with pytest.raises(ValueError, match="nothing to train on"):
        bucketed_batches([], batch_size=4, seed=0)
