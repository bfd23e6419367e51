import collections
import resource

import numpy as np
import pytest

from sora_jax.data.latents import ItemCache, LatentSource, clips_digest, fill
from sora_jax.data.pipeline import batches, bucketed_batches, crop
from sora_jax.data.sources import DataConfig, open_resized, open_source


class Numbers:
    def __init__(self, count):
        self.count = count

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        return {"x": np.int64(index)}


def take(iterator, n):
    return [next(iterator)["x"] for _ in range(n)]


def test_each_epoch_holds_every_example_once_in_an_order_of_its_own():
    order = np.concatenate(take(batches(Numbers(12), batch_size=4, seed=0), 9)).reshape(3, 12)
    for epoch in order:
        assert sorted(epoch) == list(range(12))
    assert (order[0] != order[1]).any()
    assert (order[1] != order[2]).any()


def test_the_iterator_goes_on_where_its_state_was_taken():
    iterator = batches(Numbers(20), batch_size=4, seed=5)
    take(iterator, 7)
    state = iterator.get_state()
    expected = take(iterator, 8)
    other = batches(Numbers(20), batch_size=4, seed=5)
    other.set_state(state)
    np.testing.assert_array_equal(expected, take(other, 8))


def test_hosts_share_the_examples_and_none_is_read_twice():
    parts = [batches(Numbers(16), batch_size=8, seed=2, host=i, hosts=2) for i in range(2)]
    seen = collections.Counter(int(x) for part in parts for x in np.concatenate(take(part, 2)))
    assert seen == dict.fromkeys(range(16), 1)


def jitter(example, rng):
    return {"x": example["x"] + rng.integers(1_000_000)}


def of_hosts(make, hosts, state=None, n=4):
    """`n` whole batches as so many hosts read them, and the state after them."""
    parts = [make(host=host, hosts=hosts) for host in range(hosts)]
    for part in parts:
        if state:
            part.set_state(state)
    rows = [np.concatenate(batch) for batch in zip(*(take(part, n) for part in parts), strict=True)]
    states = [part.get_state() for part in parts]
    assert all(other == states[0] for other in states)
    return rows, states[0]


def test_any_number_of_hosts_reads_the_same_batches_and_goes_on_from_any_other_s_state():
    def plain(**hosts):
        return batches(Numbers(19), batch_size=8, seed=2, random_maps=[jitter], **hosts)

    def bucketed(**hosts):
        sources = [Numbers(19), Numbers(7)]
        return bucketed_batches(sources, batch_size=8, seed=2, random_maps=[jitter], **hosts)

    for make in (plain, bucketed):
        whole, _ = of_hosts(make, 1, n=8)
        first, state = of_hosts(make, 4)
        second, _ = of_hosts(make, 2, state)
        np.testing.assert_array_equal(whole, [*first, *second])


def test_an_example_s_index_stays_with_it():
    class Named(Numbers):
        def __getitem__(self, index):
            return {"x": np.int64(index), "index": f"clip {index}"}

    batch = next(
        batches(Named(5), batch_size=4, seed=0, random_maps=[lambda example, rng: {"x": example["x"]}])
    )
    assert batch["index"].tolist() == [f"clip {x}" for x in batch["x"]]


def test_a_batch_that_doesn_t_divide_over_the_hosts_is_refused():
    with pytest.raises(ValueError, match="3 hosts"):
        batches(Numbers(16), batch_size=8, seed=0, hosts=3)


def test_crop_cuts_windows_that_are_there():
    video = np.arange(9 * 8 * 8 * 3, dtype=np.int32).reshape(9, 8, 8, 3)
    rng = np.random.default_rng(0)
    for _ in range(20):
        cut = crop(4, 5)({"video": video}, rng)["video"]
        assert cut.shape == (5, 4, 4, 3)
        t, h, w, _ = np.unravel_index(cut[0, 0, 0, 0], video.shape)
        np.testing.assert_array_equal(cut, video[t : t + 5, h : h + 4, w : w + 4])
    with pytest.raises(ValueError, match="smaller than the window"):
        crop(16, 5)({"video": video}, rng)


class Clips:
    def __init__(self, count):
        self.count, self.read = count, []

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        self.read.append(index)
        return {"video": np.full((1, 2, 2, 3), index, np.uint8)}


def encode(video):
    return video[..., :1].astype(np.float32) / 2


def test_latents_are_encoded_once_and_read_back(tmp_path):
    options = {"made_from": {"vae": "a"}, "batch_size": 3, "shard_size": 4}
    fill(tmp_path, Clips(10), encode, **options)
    source = LatentSource(tmp_path)
    assert len(source) == 10
    for i in range(10):
        assert source[i]["latents"].dtype == np.float32
        np.testing.assert_array_equal(source[i]["latents"], np.full((1, 2, 2, 1), i / 2, np.float32))
    again = Clips(10)
    fill(tmp_path, again, encode, **options)
    assert again.read == []


def test_hosts_that_share_a_cache_share_its_work(tmp_path):
    options = {"made_from": {"vae": "a"}, "batch_size": 2, "shard_size": 2, "hosts": 2}
    first, second = Clips(8), Clips(8)

    def encode_while_the_other_does(video):
        if not second.read:
            fill(tmp_path, second, encode, host=1, **options)
        return encode(video)

    fill(tmp_path, first, encode_while_the_other_does, host=0, **options)
    assert second.read[:4] == [4, 5, 6, 7]
    assert first.read == [0, 1]
    source = LatentSource(tmp_path)
    assert [float(source[i]["latents"].max()) for i in range(8)] == [i / 2 for i in range(8)]


def test_a_killed_cache_goes_on_with_what_is_missing(tmp_path):
    options = {"made_from": {"vae": "a"}, "batch_size": 2, "shard_size": 4}
    calls = []

    def failing(video):
        calls.append(video)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return encode(video)

    with pytest.raises(KeyboardInterrupt):
        fill(tmp_path, Clips(8), failing, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.json", "latents-00000.npy"]
    rest = Clips(8)
    fill(tmp_path, rest, encode, **options)
    assert rest.read == [4, 5, 6, 7]


def test_a_cache_of_other_weights_is_refused(tmp_path):
    fill(tmp_path, Clips(2), encode, made_from={"vae": "a"})
    with pytest.raises(ValueError, match="another vae"):
        fill(tmp_path, Clips(2), encode, made_from={"vae": "b"})


def test_clips_of_the_same_captions_are_told_apart():
    clips = [{"video": np.full((1, 2, 2, 3), i, np.uint8), "caption": str(i)} for i in range(3)]
    redrawn = [*clips[:2], {**clips[2], "video": clips[2]["video"] + 1}]
    renamed = [*clips[:2], {**clips[2], "caption": "another"}]
    assert clips_digest(clips) == clips_digest(list(clips))
    assert len({clips_digest(source) for source in (clips, redrawn, renamed, clips[:2])}) == 4


def test_sources_with_batches_of_their_own_size_come_as_often_as_they_weigh():
    def make():
        sources = [Numbers(16), Numbers(1000)]
        return bucketed_batches(sources, batch_size=[4, 8], weights=[0.75, 0.25], seed=0)

    iterator = make()
    sizes = [len(batch) for batch in take(iterator, 40)]
    assert collections.Counter(sizes) == {4: 30, 8: 10}
    state, expected = iterator.get_state(), take(iterator, 5)
    other = make()
    other.set_state(state)
    for a, b in zip(expected, take(other, 5), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_cache_that_the_disk_has_no_room_for_says_so_and_leaves_nothing(tmp_path):
    cache = ItemCache(tmp_path, {}, "latents")
    cache.put("kept", np.ones(3))
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(OSError, match="could not be written"):
            cache.put("large", np.ones(10_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache.json", "kept.safetensors"]
    np.testing.assert_array_equal(cache["kept"], np.ones(3))


def test_another_seed_draws_other_scenes_the_same_in_every_size():
    def captions(source):
        return [source[i]["caption"] for i in range(4)]

    config = DataConfig(count=4, height=32, width=32, frames=5, seed=1)
    other = DataConfig(count=4, height=48, width=32, frames=1, seed=1)
    drawn = captions(open_source(config))
    assert drawn == captions(open_resized(config, other))
    assert drawn != captions(open_source(DataConfig(count=4, height=32, width=32, frames=5)))
