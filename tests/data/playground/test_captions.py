"""Captions: true, varied, complete where long, and made of known words."""

import pytest

from sora_jax.data.playground import captions as say
from sora_jax.data.playground.captions import VOCABULARY, caption, words
from sora_jax.data.playground.scene import MOTIONS, RESIZING, draw_scene

SCENES = [draw_scene(seed, split="all") for seed in range(150)]


def names(text, phrases):
    return any(f" {p} " in " " + " ".join(words(text)) + " " for p in phrases)


def test_the_same_seed_gives_the_same_words():
    for scene in SCENES[:20]:
        assert caption(scene, 3) == caption(scene, 3)
    assert len({caption(SCENES[0], seed) for seed in range(50)}) > 30


def test_a_caption_uses_known_words_only_and_all_of_them():
    used = {w for s in SCENES for seed in range(30) for w in words(caption(s, seed))}
    assert used <= VOCABULARY
    assert len(VOCABULARY - used) <= 3, VOCABULARY - used
    assert 100 < len(VOCABULARY) < 220


@pytest.mark.parametrize("style", ["short", "long"])
def test_every_object_and_its_motion_is_named(style):
    for scene in SCENES:
        for seed in range(4):
            text = caption(scene, seed, style)
            for obj in scene.objects:
                assert names(text, say.COLOR_PHRASES[obj.color])
                assert names(text, say.SHAPE_PHRASES[obj.shape])
                motions = say.MOTION_PHRASES[obj.motion] + say.MOTION_PARTICIPLES[obj.motion]
                assert names(text, motions + say.MOTION_ADJECTIVES.get(obj.motion, ())), text


def test_a_long_caption_names_everything():
    for scene in SCENES:
        for seed in range(4):
            text = caption(scene, seed, "long")
            assert text[0].isupper()
            assert text.endswith(".")
            assert names(text, say.CAMERA_PHRASES[scene.camera])
            assert names(text, say.BACKGROUND_COLOR_PHRASES[scene.background_color])
            if scene.background == "graded":
                assert names(text, say.BACKGROUND_KIND_PHRASES["graded"])
            if scene.light != "steady":
                assert names(text, say.LIGHT_PHRASES[scene.light])
            for obj in scene.objects:
                assert obj.size is None or names(text, say.SIZE_PHRASES[obj.size])


@pytest.mark.parametrize("style", ["short", "long"])
def test_nothing_untrue_is_named(style):
    for scene in SCENES:
        for seed in range(6):
            text = caption(scene, seed, style)
            assert ("wall" in text) <= scene.occluder
            assert ("wall" in text) or not (scene.occluder and style == "long")
            for table, true in (
                (say.CAMERA_PHRASES, {scene.camera}),
                (say.LIGHT_PHRASES, {scene.light}),
                (say.BACKGROUND_KIND_PHRASES, {scene.background}),
                (say.SHAPE_PHRASES, {o.shape for o in scene.objects}),
                (say.SIZE_PHRASES, {o.size for o in scene.objects}),
            ):
                if table is say.SHAPE_PHRASES:
                    text = text.replace("in a circle", "")
                for value in table.keys() - true:
                    assert not names(text, table[value]), (text, value)


def test_a_size_is_never_said_of_what_grows_or_shrinks():
    for seed in range(40):
        scene = draw_scene(seed, split="all", objects=1, motion=RESIZING[seed % 2])
        text = caption(scene, seed)
        assert not any(names(text, phrases) for phrases in say.SIZE_PHRASES.values()), text


def test_there_are_several_phrasings_of_each():
    assert len(say.LONG_TEMPLATES) >= 4
    for motion in MOTIONS:
        scene = draw_scene(1, split="all", objects=1, motion=motion)
        texts = [caption(scene, seed, "short") for seed in range(60)]
        said = [p for p in say.MOTION_PHRASES[motion] if any(p in t for t in texts)]
        assert len(said) >= 4, motion


def test_no_phrase_of_one_table_means_two_things():
    for table in (
        say.SHAPE_PHRASES,
        say.COLOR_PHRASES,
        say.SIZE_PHRASES,
        say.MOTION_PHRASES,
        say.MOTION_PARTICIPLES,
        say.CAMERA_PHRASES,
        say.LIGHT_PHRASES,
        say.BACKGROUND_COLOR_PHRASES,
    ):
        phrases = [p for entry in table.values() for p in entry]
        assert len(phrases) == len(set(phrases))


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="style 'medium' is unknown"):
        caption(SCENES[0], 0, "medium")
    with pytest.raises(ValueError, match="seed -2 is negative"):
        caption(SCENES[0], -2)
