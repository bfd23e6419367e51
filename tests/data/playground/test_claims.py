from dataclasses import replace
from functools import lru_cache

import numpy as np
import pytest

from sora_jax.data.playground.captions import caption
from sora_jax.data.playground.claims import Claims, ObjectClaim, claims_of, judge, match, parse
from sora_jax.data.playground.oracle import ObjectReading, Reading
from sora_jax.data.playground.scene import draw_scene

SCENE_ATTRIBUTES = ("background", "background_color", "camera", "light", "occluder")


@lru_cache(maxsize=1)
def scenes():
    return [draw_scene(seed, split="all") for seed in range(2000)]


def reading_of(scene):
    """A faultless reading, in another order of the objects."""
    track = np.tile([0.0, 0.0, 0.1], (17, 1))
    objects = tuple(
        ObjectReading(color=o.color, shape=o.shape, size=o.size, motion=o.motion, track=track)
        for o in reversed(scene.objects)
    )
    return Reading(objects=objects, **{a: getattr(scene, a) for a in SCENE_ATTRIBUTES})


@pytest.mark.parametrize("style", ["short", "long"])
def test_every_caption_is_read_back(style):
    for seed, scene in enumerate(scenes()):
        text = caption(scene, seed, style)
        said, truth = parse(text), claims_of(scene)
        assert len(said.objects) == len(truth.objects), text
        of = {o.color: o for o in truth.objects}
        for claim in said.objects:
            assert replace(claim, size=of[claim.color].size) == of[claim.color], text
            assert claim.size in (of[claim.color].size, *([None] if style == "short" else [])), text
        for attribute in SCENE_ATTRIBUTES:
            assert getattr(said, attribute) in (getattr(truth, attribute), None), text
        low = text.lower()
        assert (said.occluder is True) == ("wall" in low), text
        assert (said.camera is not None) == ("camera" in low or "view" in low), text
        assert (said.background or said.background_color) or not ("background" in low or "backdrop" in low)
        if style == "long":
            assert said.background_color, text
            assert said.background or truth.background == "plain", text
            assert said.light or truth.light == "steady", text


@pytest.mark.parametrize(
    ("prompt", "objects"),
    [
        ("red circle moving right", [("red", "circle", None, "moves right")]),
        ("blue star, spinning", [("blue", "star", None, "spins")]),
        ("moving up, a huge green box", [("green", "square", "large", "moves up")]),
        ("A TINY  bouncing ball", [(None, "circle", "small", "bounces")]),
        ("a white heart goes from left to right", [("white", "heart", None, "moves right")]),
        ("a white heart goes from right to left", [("white", "heart", None, "moves left")]),
        ("a ring falls from top to bottom", [(None, "ring", None, "moves down")]),
        (
            "a yellow heart and a white triangle. The heart bounces, the triangle shrinks.",
            [("yellow", "heart", None, "bounces"), ("white", "triangle", None, "shrinks")],
        ),
        (
            "a red square moves in a circle and a blue circle circles around",
            [("red", "square", None, "circles around"), ("blue", "circle", None, "circles around")],
        ),
        (
            "spinning red star and resting cyan ring",
            [("red", "star", None, "spins"), ("cyan", "ring", None, "stays still")],
        ),
        ("a cat plays the piano", []),
        ("", []),
        ("red " * 100_000, []),
    ],
)
def test_objects_in_other_words(prompt, objects):
    found = [(o.color, o.shape, o.size, o.motion) for o in parse(prompt).objects]
    assert found == objects


def test_the_scene_in_other_words():
    assert parse(
        "camera zooms out. red ball grows on a gradient dark green backdrop, it gets dark"
    ) == Claims(
        objects=(ObjectClaim(color="red", shape="circle", motion="grows"),),
        background="graded",
        background_color="forest",
        camera="zooms out",
        light="gets dark",
    )
    said = parse(
        "A static shot: a green star passes behind a grey wall, moving left, on black; the lighting is even"
    )
    assert (said.camera, said.occluder, said.background_color) == ("still", True, "black")
    assert (said.light, said.objects[0].motion) == ("steady", "moves left")


def test_a_true_reading_bears_out_every_claim():
    for seed in range(100):
        scene = draw_scene(seed, split="all")
        reading = reading_of(scene)
        assert all(judge(scene, reading).values())
        assert all(judge(caption(scene, 1, "long"), reading).values())


@pytest.mark.parametrize(
    ("wrong", "attribute"),
    [
        ({"camera": "pans left"}, "camera"),
        ({"light": "gets dark"}, "light"),
        ({"background_color": "brown"}, "background_color"),
        ({"occluder": True}, "occluder"),
        ({"objects": ()}, "objects"),
    ],
)
def test_a_false_reading_is_found_out(wrong, attribute):
    scene = draw_scene(
        3, objects=2, camera="still", light="steady", occluder=False, background_color="black", split="all"
    )
    verdict = judge(scene, replace(reading_of(scene), **wrong))
    assert not verdict[attribute]
    assert not verdict["whole"]


def test_only_what_is_named_is_judged():
    scene = draw_scene(5, split="all")
    verdict = judge("", reading_of(scene))
    assert verdict == {"whole": True}
    color = scene.objects[0].color
    assert set(judge(f"a {color} {scene.objects[0].shape}", reading_of(scene))) == {
        "objects",
        "color",
        "shape",
        "whole",
    }


def test_swapped_motions_are_wrong_and_objects_are_matched_once():
    track = np.tile([0.0, 0.0, 0.1], (17, 1))
    seen = [
        ObjectReading(color="red", shape="circle", size="small", motion="moves left", track=track),
        ObjectReading(color="blue", shape="circle", size="small", motion="bounces", track=track),
    ]
    claims = parse("a blue circle moves left and a red circle bounces").objects
    assert [o and o.color for o in match(claims, seen)] == ["blue", "red"]
    assert match(claims, seen[:1])[0] is None
