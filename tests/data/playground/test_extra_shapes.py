"""A crescent comes only where it is asked for, and the oracle tells it from the rest when it is told of it."""

import pytest

from sora_jax.data.playground.captions import VOCABULARY, caption, words
from sora_jax.data.playground.claims import judge, parse
from sora_jax.data.playground.oracle import read
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import EXTRA_SHAPES, SHAPES, draw_scene

SIMPLE = {"camera": "still", "light": "steady", "occluder": False, "objects": 1}
ALL = (*SHAPES, *EXTRA_SHAPES)


def test_the_world_s_own_words_and_scenes_have_none():
    assert "crescent" not in VOCABULARY
    assert not set(EXTRA_SHAPES) & set(SHAPES)
    assert all(o.shape in SHAPES for seed in range(40) for o in draw_scene(seed, split="all").objects)


def test_asked_for_it_is_drawn_and_said():
    for seed in range(4):
        scene = draw_scene(seed, shape="crescent")
        assert scene.objects[0].shape == "crescent"
        text = caption(scene, seed)
        assert "crescent" in words(text)
        assert any(claim.shape == "crescent" for claim in parse(text).objects)
    assert parse("two red moons").objects[0].shape == "crescent"
    with pytest.raises(ValueError, match="has no scene in which it spins"):
        draw_scene(0, shape="crescent", motion="spins")


@pytest.mark.parametrize("size", ["small", "large"])
@pytest.mark.parametrize("motion", ["moves right", "stays still"])
def test_the_oracle_tells_it(size, motion):
    scene = draw_scene(7, split="all", shape="crescent", size=size, motion=motion, **SIMPLE)
    clip = render(scene)
    assert judge(scene, read(clip, shapes=ALL))["whole"]
    assert read(clip).objects[0].shape in SHAPES


@pytest.mark.parametrize("shape", SHAPES)
def test_no_other_shape_is_taken_for_it(shape):
    scene = draw_scene(3, split="all", shape=shape, motion="moves left", size="small", **SIMPLE)
    assert read(render(scene), shapes=ALL).objects[0].shape == shape
