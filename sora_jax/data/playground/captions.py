"""Words for a scene: short like a human's, long like a recaptioner's, in many phrasings, all of them true.

Everything a caption can say stands in the tables below, so that a reader of prompts can invert them. The
first phrase of each entry is the plainest and comes more often than the others.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from sora_jax.data.playground.chance import Chance
from sora_jax.data.playground.scene import (
    BackgroundColor,
    BackgroundKind,
    Camera,
    Color,
    ExtraShape,
    Light,
    Motion,
    Object,
    Scene,
    Shape,
    Size,
)

__all__ = [
    "BACKGROUND_COLOR_PHRASES",
    "BACKGROUND_KIND_PHRASES",
    "BACKGROUND_PHRASES",
    "CAMERA_PHRASES",
    "COLOR_PHRASES",
    "LIGHT_PHRASES",
    "MOTION_ADJECTIVES",
    "MOTION_PARTICIPLES",
    "MOTION_PHRASES",
    "OCCLUDER_PHRASES",
    "SHAPE_PHRASES",
    "SIZE_PHRASES",
    "VOCABULARY",
    "Style",
    "caption",
    "words",
]

Style = Literal["short", "long", "any"]

SHAPE_PHRASES: dict[Shape, tuple[str, ...]] = {
    "circle": ("circle", "ball", "disc"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "ring": ("ring", "hoop"),
    "heart": ("heart",),
}
EXTRA_SHAPE_PHRASES: dict[ExtraShape, tuple[str, ...]] = {"crescent": ("crescent",)}
COLOR_PHRASES: dict[Color, tuple[str, ...]] = {
    "red": ("red",),
    "green": ("green",),
    "blue": ("blue",),
    "yellow": ("yellow",),
    "purple": ("purple", "violet"),
    "orange": ("orange",),
    "white": ("white",),
    "cyan": ("cyan", "turquoise"),
}
SIZE_PHRASES: dict[Size, tuple[str, ...]] = {
    "small": ("small", "little", "tiny"),
    "large": ("large", "big"),
}
MOTION_PHRASES: dict[Motion, tuple[str, ...]] = {
    "moves left": (
        "moves left",
        "moves to the left",
        "goes left",
        "slides left",
        "slides to the left",
        "drifts left",
    ),
    "moves right": (
        "moves right",
        "moves to the right",
        "goes right",
        "slides right",
        "slides to the right",
        "drifts right",
    ),
    "moves up": ("moves up", "goes up", "rises", "slides up", "moves upward", "floats up"),
    "moves down": ("moves down", "goes down", "sinks", "slides down", "moves downward", "floats down"),
    "stays still": ("stays still", "does not move", "stands still", "rests", "stays in place"),
    "bounces": (
        "bounces",
        "bounces up and down",
        "keeps bouncing",
        "bounces on the floor",
        "hops up and down",
    ),
    "circles around": (
        "circles around",
        "moves in a circle",
        "goes around in circles",
        "loops around",
        "orbits",
    ),
    "spins": ("spins", "rotates", "spins around", "turns around", "spins in place"),
    "grows": ("grows", "gets bigger", "gets larger", "expands", "becomes bigger"),
    "shrinks": ("shrinks", "gets smaller", "becomes smaller", "contracts"),
}
MOTION_PARTICIPLES: dict[Motion, tuple[str, ...]] = {
    "moves left": ("moving left", "moving to the left", "going left", "sliding left", "drifting left"),
    "moves right": ("moving right", "moving to the right", "going right", "sliding right", "drifting right"),
    "moves up": ("moving up", "going up", "rising", "sliding up", "floating up"),
    "moves down": ("moving down", "going down", "sinking", "sliding down", "floating down"),
    "stays still": ("staying still", "standing still", "not moving", "resting"),
    "bounces": ("bouncing", "bouncing up and down", "bouncing on the floor", "hopping up and down"),
    "circles around": ("circling around", "moving in a circle", "going around in circles", "looping around"),
    "spins": ("spinning", "rotating", "spinning around", "turning around"),
    "grows": ("growing", "getting bigger", "getting larger", "expanding"),
    "shrinks": ("shrinking", "getting smaller", "becoming smaller"),
}
MOTION_ADJECTIVES: dict[Motion, tuple[str, ...]] = {
    "stays still": ("still", "resting"),
    "bounces": ("bouncing",),
    "circles around": ("circling",),
    "spins": ("spinning", "rotating"),
    "grows": ("growing",),
    "shrinks": ("shrinking",),
}
BACKGROUND_COLOR_PHRASES: dict[BackgroundColor, tuple[str, ...]] = {
    "black": ("black",),
    "gray": ("gray", "grey"),
    "navy": ("navy", "dark blue", "navy blue"),
    "maroon": ("maroon", "dark red"),
    "forest": ("dark green", "forest green"),
    "brown": ("brown",),
}
BACKGROUND_KIND_PHRASES: dict[BackgroundKind, tuple[str, ...]] = {
    "plain": ("plain", "solid", "flat"),
    "graded": ("graded", "gradient", "shaded"),
}
BACKGROUND_PHRASES: tuple[str, ...] = ("background", "backdrop")
PLACE_PHRASES: tuple[str, ...] = ("on", "over", "across", "against", "in front of")
CAMERA_PHRASES: dict[Camera, tuple[str, ...]] = {
    "still": (
        "the camera stays still",
        "the camera is still",
        "the camera does not move",
        "the camera is fixed",
    ),
    "pans left": ("the camera pans left", "the camera pans to the left", "the view pans left"),
    "pans right": ("the camera pans right", "the camera pans to the right", "the view pans right"),
    "zooms in": ("the camera zooms in", "the view zooms in", "the camera slowly zooms in"),
    "zooms out": ("the camera zooms out", "the view zooms out", "the camera slowly zooms out"),
}
LIGHT_PHRASES: dict[Light, tuple[str, ...]] = {
    "steady": ("the light is steady", "the light stays the same", "the light does not change"),
    "gets dark": (
        "the light gets dark",
        "it gets dark",
        "the light fades",
        "the scene gets darker",
        "the light dims",
    ),
    "gets bright": (
        "the light gets bright",
        "it gets bright",
        "the light brightens",
        "the scene gets brighter",
        "it gets brighter",
    ),
}
OCCLUDER_PHRASES: tuple[str, ...] = ("behind a gray wall", "behind a grey wall", "behind a wall")
OCCLUDER_CLAUSES: tuple[str, ...] = (
    "and passes behind a gray wall",
    "and goes behind a gray wall",
    "and goes behind a gray wall and comes out again",
    "and disappears behind a gray wall and comes out again",
)

OPENINGS: tuple[str, ...] = ("a video of", "a clip of")
JOINTS: tuple[str, ...] = (" and ", ", and ", ", ", " while ")
ASIDES: tuple[str, ...] = (" while ", ", ", " as ", " and ")
LONG_TEMPLATES: tuple[str, ...] = (
    "{objects} {place} {background} while {camera}{light}.",
    "{objects} {place} {background}. {camera}{light}.",
    "on {background}, {objects}. {camera}{light}.",
    "{objects}. the background is {shade}. {camera}{light}.",
    "in this video, {objects} {place} {background}, as {camera}{light}.",
    "{camera} while {objects} {place} {background}{light}.",
    "the scene has {background}, where {objects}. {camera}{light}.",
)
LONG_LIGHT_JOINTS: tuple[str, ...] = (" and ", ". ", ", and ")


def words(text: str) -> list[str]:
    """The words of a text, in lower case and without punctuation."""
    return re.findall(r"[a-z0-9']+", text.lower())


def _vocabulary() -> frozenset[str]:
    tables: list[Mapping[Any, Sequence[str]]] = [
        SHAPE_PHRASES,
        COLOR_PHRASES,
        SIZE_PHRASES,
        MOTION_PHRASES,
        MOTION_PARTICIPLES,
        MOTION_ADJECTIVES,
        BACKGROUND_COLOR_PHRASES,
        BACKGROUND_KIND_PHRASES,
        CAMERA_PHRASES,
        LIGHT_PHRASES,
    ]
    phrases = [p for table in tables for entry in table.values() for p in entry]
    phrases += [*BACKGROUND_PHRASES, *PLACE_PHRASES, *OCCLUDER_PHRASES, *OCCLUDER_CLAUSES, *OPENINGS]
    phrases += [*JOINTS, *ASIDES, *LONG_LIGHT_JOINTS, "a", "an", "and"]
    phrases += [re.sub(r"\{\w+\}", " ", t) for t in LONG_TEMPLATES]
    return frozenset(w for p in phrases for w in words(p))


VOCABULARY: frozenset[str] = _vocabulary()
"""Every word that a caption can use, in lower case."""


def _say(draw: Chance, phrases: Sequence[str], plain: float = 0.5) -> str:
    return phrases[0] if draw.happens(plain) else draw.pick(phrases)


def _article(text: str) -> str:
    return ("an " if text[0] in "aeiou" else "a ") + text


_ALL_SHAPES: dict[Any, tuple[str, ...]] = {**SHAPE_PHRASES, **EXTRA_SHAPE_PHRASES}


def _thing(draw: Chance, obj: Object, *, sized: bool, manner: str = "", bare: bool = False) -> str:
    parts = [_say(draw, SIZE_PHRASES[obj.size], 0.7)] if sized and obj.size else []
    parts += [manner] if manner else []
    parts += [_say(draw, COLOR_PHRASES[obj.color], 0.9), _say(draw, _ALL_SHAPES[obj.shape], 0.85)]
    text = " ".join(parts)
    return text if bare else _article(text)


def _clause(draw: Chance, obj: Object, *, sized: bool, form: str, hidden: bool, bare: bool = False) -> str:
    """One object and its motion: `form` is "verb" ("moves"), "participle" ("moving") or "adjective"."""
    if form == "adjective" and obj.motion in MOTION_ADJECTIVES and not hidden:
        return _thing(draw, obj, sized=sized, manner=draw.pick(MOTION_ADJECTIVES[obj.motion]), bare=bare)
    verb = form == "verb"
    motion = _say(draw, (MOTION_PHRASES if verb else MOTION_PARTICIPLES)[obj.motion])
    text = f"{_thing(draw, obj, sized=sized, bare=bare)} {motion}"
    if hidden:
        text += " " + draw.pick((*OCCLUDER_PHRASES, *OCCLUDER_CLAUSES) if verb else OCCLUDER_PHRASES)
    return text


def _clauses(
    draw: Chance, scene: Scene, *, sized: float, hidden: bool, form: str = "verb", bare: bool = False
) -> str:
    named = [
        _clause(draw, o, sized=draw.happens(sized), form=form, hidden=hidden and i == 0, bare=bare)
        for i, o in enumerate(scene.objects)
    ]
    if len(named) == 1:
        return named[0]
    if draw.happens(0.5):
        named.reverse()
    joint = draw.pick(JOINTS if form == "verb" else JOINTS[:3])
    return joint.join(named) if len(named) == 2 else f"{', '.join(named[:-1])} and {named[-1]}"


def _shade(draw: Chance, scene: Scene, *, kind: bool, color: bool) -> str:
    parts = [_say(draw, BACKGROUND_KIND_PHRASES[scene.background], 0.6)] if kind else []
    parts += [_say(draw, BACKGROUND_COLOR_PHRASES[scene.background_color], 0.6)] if color else []
    return " ".join(parts)


def _background(draw: Chance, scene: Scene, *, kind: bool, color: bool) -> str:
    return _article(f"{_shade(draw, scene, kind=kind, color=color)} {_say(draw, BACKGROUND_PHRASES, 0.8)}")


def _short(draw: Chance, scene: Scene) -> str:
    u = draw.uniform()
    form = "verb" if u < 0.7 else "participle" if u < 0.9 else "adjective"
    sized = 0.0 if draw.happens(0.55) else 1.0
    hidden = scene.occluder and draw.happens(0.8)
    bare = len(scene.objects) == 1 and draw.happens(0.08)
    text = _clauses(draw, scene, sized=sized, hidden=hidden, form=form, bare=bare)
    if form != "verb" and not bare and draw.happens(0.2):
        text = f"{draw.pick(OPENINGS)} {text}"
    if draw.happens(0.35):
        u = draw.uniform()
        text += f" {_say(draw, PLACE_PHRASES, 0.4)} {_background(draw, scene, kind=u > 0.5, color=u < 0.85)}"
    asides = []
    if draw.happens(0.6 if scene.camera != "still" else 0.07):
        asides.append(_say(draw, CAMERA_PHRASES[scene.camera]))
    if draw.happens(0.6 if scene.light != "steady" else 0.05):
        asides.append(_say(draw, LIGHT_PHRASES[scene.light]))
    if asides and draw.happens(0.3):
        asides.reverse()
    return text + "".join(draw.pick(ASIDES) + aside for aside in asides)


def _long(draw: Chance, scene: Scene) -> str:
    kind = scene.background != "plain" or draw.happens(0.6)
    light = ""
    if scene.light != "steady" or draw.happens(0.3):
        light = draw.pick(LONG_LIGHT_JOINTS) + _say(draw, LIGHT_PHRASES[scene.light])
    text = draw.pick(LONG_TEMPLATES).format(
        objects=_clauses(draw, scene, sized=1.0, hidden=scene.occluder),
        place=draw.pick(PLACE_PHRASES),
        background=_background(draw, scene, kind=kind, color=True),
        shade=_shade(draw, scene, kind=kind, color=True),
        camera=_say(draw, CAMERA_PHRASES[scene.camera]),
        light=light,
    )
    return re.sub(r"(^|\. )([a-z])", lambda m: m[1] + m[2].upper(), text)


def caption(scene: Scene, seed: int, style: Style = "any") -> str:
    """A true caption of `scene`; the same seed gives the same words.

    Args:
        seed: a whole number >= 0 that picks the phrasing.
        style: "short" names every object and its motion, and of the rest a random part or nothing; "long"
            names everything, in sentences; "any" is one or the other.

    Raises:
        ValueError: an unknown style or a negative seed.
    """
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: choose a whole number from 0.")
    if style not in ("short", "long", "any"):
        raise ValueError(f"style {style!r} is unknown: choose short, long or any.")
    draw = Chance([scene.seed, seed], stream=7)
    long = style == "long" or (style == "any" and draw.happens(0.4))
    return _long(draw, scene) if long else _short(draw, scene)
