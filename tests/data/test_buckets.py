import math

import pytest

from sora_jax.data.buckets import Bucket, choose_bucket, make_buckets

WAN = {"temporal_factor": 4, "grid": 16}
ASPECTS = ("16:9", "4:3", "1:1", "3:4", "9:16")


def tokens(bucket):
    return (1 + (bucket.frames - 1) // 4) * (bucket.height // 16) * (bucket.width // 16)


def test_all_buckets_cost_about_the_same():
    buckets = make_buckets(81, 480, 832, aspects=ASPECTS, lengths=(81, 41, 21, 1), **WAN)
    assert buckets[0] == Bucket(81, 480, 832)
    assert {b.frames for b in buckets} == {81, 41, 21, 1}
    assert len(set(buckets)) == len(buckets)
    wanted = 21 * 30 * 52
    for bucket in buckets:
        assert bucket.height % 16 == bucket.width % 16 == 0
        assert abs(tokens(bucket) / wanted - 1) < 0.03, bucket
    # 832:480 is within a twentieth of 16:9, so that one isn't there twice.
    assert len(buckets) == 4 * len(ASPECTS)


def test_small_sizes_stay_on_the_grid():
    buckets = make_buckets(9, 32, 32, aspects=("1:1", "2:1", "1:9"), lengths=(5,), **WAN)
    assert min(min(b.height, b.width) for b in buckets) >= 16
    assert all(tokens(b) <= 2 * 12 for b in buckets)


def test_a_clip_goes_where_least_is_lost():
    buckets = make_buckets(81, 480, 832, aspects=ASPECTS, lengths=(81, 41), **WAN)
    assert choose_bucket(buckets, 200, 1080, 1920) == buckets[0]
    tall = choose_bucket(buckets, 81, 1920, 1080)
    assert tall is not None
    assert tall.frames == 81
    assert math.isclose(tall.width / tall.height, 9 / 16, rel_tol=0.1)
    short = choose_bucket(buckets, 80, 500, 500)
    assert short is not None
    assert short.frames == 41
    assert math.isclose(short.height, short.width, rel_tol=0.03)
    assert choose_bucket(buckets, 40, 500, 500) is None


@pytest.mark.parametrize(
    ("frames", "height", "aspects", "lengths", "says"),
    [
        (80, 480, (), (), "80 frames"),
        (81, 480, (), (6,), "6 frames"),
        (81, 481, (), (), "height is 481"),
        (81, 480, ("wide",), (), "'wide' is no aspect"),
        (81, 480, ("1:0",), (), "'1:0' is no aspect"),
        (81, 480, ("99:1",), (), "at most 10:1"),
    ],
)
def test_what_can_t_be_is_refused(frames, height, aspects, lengths, says):
    with pytest.raises(ValueError, match=says):
        make_buckets(frames, height, 832, aspects=aspects, lengths=lengths, **WAN)
