"""Windows over a timeline: each goes on from known frames, and after the last all are known."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_jax.studio.windows import context_frames, latent_unknown, plan_windows


def mask(text: str) -> np.ndarray:
    return np.array([letter == "#" for letter in text])


def planned(text: str, length: int = 17) -> list[tuple[int, int]]:
    return [(w.start, w.stop) for w in plan_windows(mask(text), length, 4)]


@pytest.mark.parametrize(
    ("timeline", "windows"),
    [
        ("." * 17, [(0, 17)]),
        ("." * 3, [(0, 5)]),
        ("." * 33, [(0, 17), (8, 25), (16, 33)]),
        # Forward from nine frames, that is three latents.
        ("#" * 17 + "." * 8, [(8, 25)]),
        # Backward to eight frames, that is two latents.
        ("." * 9 + "#" * 17, [(0, 17)]),
        # Between two clips with about as much of each.
        ("#" * 17 + "." * 8 + "#" * 17, [(12, 29)]),
        ("#" * 17, []),
        # The last frame of a timeline stands for the rest of its latent.
        ("." * 8 + "#", [(-5, 12)]),
        ("#" + "." * 15 + "#", [(0, 9), (3, 20)]),
        # Both sides are seen, however few frames are there and whatever the gap divides by.
        ("#" * 6 + "." * 10 + "#" * 6, [(5, 22)]),
        ("#" * 8 + "." * 2 + "#" * 4, [(3, 16)]),
        # What leads over to a later side sees it.
        ("#" + "." * 13 + "#" * 8, [(0, 9), (4, 21)]),
        # Two frames fill no latent: they begin a window first.
        ("." * 8 + "##" + "." * 8, [(9, 18), (-1, 16)]),
    ],
)
def test_a_gap_has_its_windows(timeline, windows):
    assert planned(timeline) == windows


def test_a_window_sees_the_later_side_of_the_gap_that_it_closes():
    for gap in range(1, 40):
        for before, after in ((17, 17), (17, 4), (1, 7), (4, 4)):
            known = np.repeat([True, False, True], (before, gap, after))
            for window in plan_windows(known, 17, 4):
                at = np.arange(window.start, window.stop).clip(0, len(known) - 1)
                closes = at.max() >= before + gap
                assert not closes or not latent_unknown(~known[at], 4)[-1], (gap, before, after)
                known[at] = True


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), min_size=1, max_size=6), st.integers(1, 6))
def test_all_frames_are_made_each_from_known_ones(runs, k):
    known = np.concatenate([np.full(count, value) for value, count in runs])
    length = 1 + 4 * k
    windows = plan_windows(known, length, 4)
    first = not known.any()
    for window in windows:
        frames = window.stop - window.start
        assert frames <= length
        assert frames % 4 == 1
        inside = slice(max(window.start, 0), min(window.stop, len(known)))
        assert not known[inside].all()
        assert known[inside].any() or first
        known[inside] = True
        first = False
    assert known.all()


def test_a_latent_is_known_where_all_its_frames_are():
    unknown = ~mask("#" + "####" + "##.#" + "....")
    np.testing.assert_array_equal(latent_unknown(unknown, 4), [False, False, True, True])
    pixels = np.zeros((5, 2, 2), bool)
    pixels[3, 0, 1] = True
    np.testing.assert_array_equal(latent_unknown(pixels, 4)[1], [[False, True], [False, False]])
    assert [context_frames(length, 4) for length in (5, 17, 81)] == [1, 9, 41]
