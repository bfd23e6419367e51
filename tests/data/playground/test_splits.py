"""Held-out pairs: a tenth of what can be combined, never in training, always in `held_out`."""

import pytest

from sora_jax.data.playground.scene import COLORS, MOTIONS, SHAPES, SPINNABLE, draw_scene
from sora_jax.data.playground.splits import HELD_OUT_COLOR_SHAPE, HELD_OUT_SHAPE_MOTION, is_held_out

COUNT = 400


def test_about_a_tenth_of_the_pairs_is_held_out():
    spins = len(SPINNABLE)
    assert 0.08 <= len(set(HELD_OUT_COLOR_SHAPE)) / (len(COLORS) * len(SHAPES)) <= 0.12
    valid = len(SHAPES) * (len(MOTIONS) - 1) + spins
    assert 0.08 <= len(set(HELD_OUT_SHAPE_MOTION)) / valid <= 0.12
    assert all(c in COLORS and s in SHAPES for c, s in HELD_OUT_COLOR_SHAPE)
    assert all(s in SHAPES and m in MOTIONS for s, m in HELD_OUT_SHAPE_MOTION)


def test_training_has_no_held_out_pair_and_every_value():
    objects = [o for seed in range(COUNT) for o in draw_scene(seed).objects]
    assert not any(is_held_out(o.color, o.shape, o.motion) for o in objects)
    assert {o.color for o in objects} == set(COLORS)
    assert {o.shape for o in objects} == set(SHAPES)
    assert {o.motion for o in objects} == set(MOTIONS)


def test_held_out_draws_only_scenes_with_a_held_out_pair():
    scenes = [draw_scene(seed, split="held_out") for seed in range(COUNT)]
    assert all(scene.held_out for scene in scenes)
    seen = {p for s in scenes for o in s.objects for p in ((o.color, o.shape), (o.shape, o.motion))}
    assert seen.issuperset(HELD_OUT_COLOR_SHAPE)
    assert seen.issuperset(HELD_OUT_SHAPE_MOTION)


def test_a_named_object_is_the_held_out_one():
    for seed in range(20):
        first = draw_scene(seed, split="held_out", shape="heart", objects=2).objects[0]
        assert first.shape == "heart"
        assert is_held_out(first.color, first.shape, first.motion)


def test_a_held_out_pair_cannot_be_asked_of_training():
    with pytest.raises(ValueError, match="held out of training"):
        draw_scene(0, color="purple", shape="circle")
    assert draw_scene(0, split="all", color="purple", shape="circle").objects[0].color == "purple"


def test_the_empty_intersection_is_an_error_and_not_a_hang():
    with pytest.raises(ValueError, match="no scene of split"):
        draw_scene(0, split="held_out", color="red", shape="circle", motion="moves left")
