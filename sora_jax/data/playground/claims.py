"""What a prompt claims about a clip, and which of its claims a reading of the clip bears out.

`parse` is the inverse of the captions' phrases, and a little wider: people change the order of words. What is
said of the scene (camera, light, background, wall) is taken out first, for those phrases borrow the words of the
objects; in the rest every shape is an object with the adjectives before it, and a motion belongs to the object
last named. An attribute that a prompt does not name stays None, and nothing is judged that was not named.
"""

import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from sora_jax.data.playground.oracle import ObjectReading, Reading
from sora_jax.data.playground.world import Scene

__all__ = ["Claims", "ObjectClaim", "claims_of", "judge", "match", "parse"]

OBJECT_ATTRIBUTES = ("color", "shape", "size", "motion")
SCENE_ATTRIBUTES = ("background", "background_color", "camera", "light", "occluder")


@dataclass(frozen=True, kw_only=True)
class ObjectClaim:
    """What a prompt says of one object; None where it says nothing."""

    color: str | None = None
    shape: str | None = None
    size: str | None = None
    motion: str | None = None


@dataclass(frozen=True, kw_only=True)
class Claims:
    """What a prompt says of a scene; None where it says nothing."""

    objects: tuple[ObjectClaim, ...] = ()
    background: str | None = None
    background_color: str | None = None
    camera: str | None = None
    light: str | None = None
    occluder: bool | None = None


def _names(table: dict[str, str]) -> str:
    return "|".join(table.values())


def _value(table: dict[str, str], word: str) -> str | None:
    return next((name for name, words in table.items() if re.fullmatch(words, word)), None)


_SHAPES = {
    "circle": r"circles?|dis[ck]s?|balls?|dots?",
    "square": r"squares?|box(?:es)?",
    "triangle": r"triangles?",
    "star": r"stars?",
    "ring": r"rings?|hoops?|donuts?",
    "heart": r"hearts?",
    "crescent": r"crescents?|moons?",
}
_COLORS = {
    "red": r"red",
    "green": r"green",
    "blue": r"blue",
    "yellow": r"yellow",
    "purple": r"purple|violet",
    "orange": r"orange",
    "white": r"white",
    "cyan": r"cyan|turquoise|aqua",
}
_SIZES = {"small": r"small|little|tiny", "large": r"large|big|huge"}
_BACKGROUND_COLORS = {
    "black": r"black",
    "gray": r"gray",
    "navy": r"navy(?: blue)?|dark blue",
    "maroon": r"maroon|dark red",
    "forest": r"forest(?: green)?|dark green",
    "brown": r"brown",
}
_KINDS = {
    "plain": r"plain|solid|flat|uniform|even",
    "graded": r"graded|gradient|banded|bands?|shaded|shading|striped",
}

_SOME = r"(?: (?!and\b|while\b|as\b|an?\b)\w+){0,3}?"
_EYE = rf"(?:camera|view|shot){_SOME}"
_FIXED = r"still|fixed|static|steady|stationary|motionless|unmoving|locked|in place"
_CAMERA = {
    "pans {}": rf"(?:{_EYE} )?pan(?:s|ning|ned)?{_SOME} (left|right)(?:wards?)?"
    rf"|{_EYE} (left|right)(?:wards?)?|(left|right)(?:ward)? pan",
    "zooms in": rf"(?:{_EYE} )?zoom(?:s|ing|ed)?{_SOME} in(?:wards?)?|{_EYE} (?:push\w* in|mov\w* (?:in|closer))",
    "zooms out": rf"(?:{_EYE} )?zoom(?:s|ing|ed)?{_SOME} out(?:wards?)?|{_EYE} pull\w* (?:back|out|away)",
    "still": rf"{_EYE} (?:{_FIXED}|moves?|moving|put)|(?:{_FIXED}) (?:camera|shot|view)",
}
_TURNS = r"(?:get|grow|becom|turn|fad|go|fall)\w*(?: (?:slowly|gradually|from|bright|dark|down|up|to|more))*"
_EVEN = r"steady|constant|even|same|unchanged|unchanging"
_LIGHT = {
    "gets dark": rf"{_TURNS} (?:dark(?:er|ness)?|dim(?:mer)?)|darken\w*|dim(?:s|ming)|fad(?:es|ing)(?: away| out)?"
    r"|light(?:s|ing)? (?:fall|go|drop)\w*(?: (?:away|out|down|low))?",
    "gets bright": rf"{_TURNS} (?:bright(?:er)?|lighter)|brighten\w*"
    r"|light(?:s|ing)? (?:ris|com|grow|return)\w*(?: (?:up|back))*",
    "steady": rf"(?:light(?:s|ing)?|brightness){_SOME} (?:{_EVEN}|change)|(?:{_EVEN}) light(?:ing)?",
}
_GROUND = r"(?:background|backdrop)"

_GOING = r"(?:mov|slid|glid|drift|travel|go|head|float|fl[iy]|run|roll|pass|cross|ris|fall|sink|climb|drop|rac|loop)\w*"
_ON = rf"{_GOING}(?: (?!and\b|while\b|as\b|an?\b)\w+){{0,4}}?"
_MOTIONS = {
    "stays still": rf"(?:stay|stand|remain|hold|keep|sit|is|lie)\w*(?: \w+){{0,2}}? (?:{_FIXED}|put)"
    rf"|(?:does |do |is )?not mov\w*|(?:doesnt|isnt) mov\w*|without moving|rest(?:s|ing)?"
    r"|still|stationary|motionless|static|unmoving",
    "circles around": r"(?:circles|circling)(?: around| round)|circling|orbit\w*|loop\w*(?: around| round)?"
    rf"|{_ON} (?:in|along|around|round)(?: in| a| an){{0,2}}(?: \w+)? (?:circles?|circular path|ring path|orbit)"
    r"|(?:go|mov|travel)\w* (?:around and around|round and round)",
    "moves right": rf"{_ON} right(?:wards?)?(?! (?:side )?to\b)"
    rf"|(?:{_ON} )?(?:from )?(?:the )?left(?: side)? to (?:the )?right",
    "moves left": rf"{_ON} left(?:wards?)?|(?:{_ON} )?(?:from )?(?:the )?right(?: side)? to (?:the )?left",
    "moves up": rf"{_ON} (?:up(?:wards?)?|top)(?! to\b)|(?:from )?(?:the )?bottom to (?:the )?top"
    r"|ris(?:es|ing)|climb\w*",
    "moves down": rf"{_ON} (?:down(?:wards?)?|bottom)|(?:from )?(?:the )?top to (?:the )?bottom"
    r"|(?:fall|sink|descend)\w*",
    "bounces": r"bounc\w*|hop(?:s|ping)?",
    "spins": r"(?:(?:spin|rotat|twirl|whirl)\w*|turn(?:s|ing)?)(?: around| round)?(?: in place| on the spot)?",
    "grows": r"grow\w*|(?:get|becom)\w* (?:bigger|larger)|expand\w*|swell\w*",
    "shrinks": r"shrink\w*|(?:get|becom)\w* smaller|contract\w*",
}


def _take(text: str, pattern: str) -> tuple[re.Match[str] | None, str]:
    """The first match of `pattern` as whole words, and the text with a full stop in its place."""
    found = re.search(rf"\b(?:{pattern})\b", text)
    return found, text if found is None else f"{text[: found.start()]} . {text[found.end() :]}"


def _take_first(text: str, table: dict[str, str]) -> tuple[str | None, str]:
    """The value in `table` whose pattern matches earliest, and the text without it."""
    best: tuple[int, str, str] | None = None
    for name, pattern in table.items():
        found, rest = _take(text, pattern)
        if found and (best is None or found.start() < best[0]):
            side = next((g for g in found.groups() if g), "")
            best = (found.start(), name.format(side), rest)
    return (None, text) if best is None else best[1:]


def _take_background(text: str) -> tuple[str | None, str | None, str]:
    """Kind and color of the background, and the text without them."""
    colors, kinds = _names(_BACKGROUND_COLORS), _names(_KINDS)
    either = rf"(?:{colors}|{kinds})"
    said = rf"{either}(?:(?: and|,)? {either})*"
    shapes = _names(_SHAPES)
    patterns = (
        rf"{said}(?: \w+)? {_GROUND}(?: (?:with|of|in) (?:soft |vertical )*{said})?",
        rf"{_GROUND}(?: \w+){{0,3}}? {said}",
        rf"(?:on|against|over|across|before|in front of) (?:an? |the )?{said}(?! (?:{shapes}|{_names(_COLORS)}))",
        _GROUND,
    )
    for pattern in patterns:
        found, rest = _take(text, pattern)
        if found:
            color = re.search(rf"\b(?:{colors})\b", found[0])
            kind = re.search(rf"\b(?:{kinds})\b", found[0])
            return (
                kind and _value(_KINDS, kind[0]),
                color and _value(_BACKGROUND_COLORS, color[0]),
                rest,
            )
    return None, None, text


def parse(prompt: str) -> Claims:
    """What `prompt` says; words that mean nothing in the playground are passed over. Never raises."""
    text = prompt[:4000].lower().replace("grey", "gray").replace("'", "").replace("-", " ")
    text = re.sub(r"\s+", " ", re.sub(r"[.,;:!?()\"]", " , ", text))

    wall, text = _take(text, r"(?:(?:a|the) )?(?:\w+ )?gray wall|(?:a|the)(?: \w+)? wall|wall")
    camera, text = _take_first(text, _CAMERA)
    light, text = _take_first(text, _LIGHT)
    background, background_color, text = _take_background(text)
    return Claims(
        objects=tuple(_parse_objects(text)),
        background=background,
        background_color=background_color,
        camera=camera,
        light=light,
        occluder=True if wall else None,
    )


def _parse_objects(text: str) -> list[ObjectClaim]:
    # Motions go first: "in a circle", "circles around" hold a shape's name.
    events: list[tuple[int, str, str]] = []
    for name, pattern in _MOTIONS.items():
        for found in re.finditer(rf"\b(?:{pattern})\b", text):
            events.append((found.start(), "motion", name))
        text = re.sub(rf"\b(?:{pattern})\b", lambda m: "_" * len(m[0]), text)
    claims: list[ObjectClaim] = []
    nouns: list[tuple[int, int]] = []
    tokens = [(m.start(), m[0]) for m in re.finditer(r"\w+|,", text)]
    for i, (_, word) in enumerate(tokens):
        shape = _value(_SHAPES, word)
        if shape is None:
            continue
        start, definite, words = _adjectives(tokens, i)
        claim = ObjectClaim(
            color=next((v for w in words if (v := _value(_COLORS, w))), None),
            size=next((v for w in words if (v := _value(_SIZES, w))), None),
            shape=shape,
        )
        again = next((k for k, old in enumerate(claims) if _same(old, claim)), None) if definite else None
        if again is None:
            claims.append(claim)
            again = len(claims) - 1
        else:
            claims[again] = _merged(claims[again], claim)
        nouns.append((start, again))
    for start, _, motion in sorted(events):
        before = [i for place, i in nouns if place < start]
        after = [i for place, i in nouns if place >= start]
        free = next((i for i in (*before[-1:], *after[:1]) if claims[i].motion is None), None)
        if free is not None:
            claims[free] = replace(claims[free], motion=motion)
    return claims


def _adjectives(tokens: Sequence[tuple[int, str]], noun: int) -> tuple[int, bool, list[str]]:
    """Where the phrase of the noun at `noun` starts, whether it has "the", and its words of color and size."""

    def describes(i: int) -> bool:
        return i >= 0 and (_value(_COLORS, tokens[i][1]) or _value(_SIZES, tokens[i][1])) is not None

    def passes(i: int) -> bool:
        # A motion that was taken out; or one word between two adjectives: "large, shiny red", "big and blue".
        word = tokens[i][1]
        between = describes(i - 1) and describes(i + 1) and _value(_SHAPES, word) is None
        return word.startswith("_") or between

    words: list[str] = []
    i = noun - 1
    while i >= 0 and (describes(i) or passes(i)):
        if describes(i):
            words.append(tokens[i][1])
        i -= 1
    if i >= 0 and tokens[i][1] in ("a", "an", "the"):
        return tokens[i][0], tokens[i][1] == "the", words
    return tokens[i + 1][0], False, words


def _same(old: ObjectClaim, new: ObjectClaim) -> bool:
    pairs = [(getattr(old, a), getattr(new, a)) for a in OBJECT_ATTRIBUTES]
    return all(a == b or a is None or b is None for a, b in pairs)


def _merged(old: ObjectClaim, new: ObjectClaim) -> ObjectClaim:
    return ObjectClaim(**{a: getattr(old, a) or getattr(new, a) for a in OBJECT_ATTRIBUTES})


def claims_of(scene: Scene) -> Claims:
    """Everything that is true of a scene, as claims."""
    return Claims(
        objects=tuple(ObjectClaim(**{a: getattr(o, a) for a in OBJECT_ATTRIBUTES}) for o in scene.objects),
        **{a: getattr(scene, a) for a in SCENE_ATTRIBUTES},
    )


def match(claims: Sequence[ObjectClaim], seen: Sequence[ObjectReading]) -> list[ObjectReading | None]:
    """For each claim the object that bears it out best, no object twice; None where there are too few."""

    def likeness(claim: ObjectClaim, obj: ObjectReading | None) -> float:
        # Color finds an object where two share everything else that is right.
        weights = (1.5, 1.0, 0.6, 1.0)
        named = [(getattr(claim, a), a, w) for a, w in zip(OBJECT_ATTRIBUTES, weights, strict=True)]
        return sum(w for value, a, w in named if obj and value is not None and value == getattr(obj, a))

    few: list[ObjectReading | None] = []
    few += sorted(seen, key=lambda o: -_presence(o))[: len(claims) + 2]
    few += [None] * (len(claims) - len(few))
    orders = itertools.permutations(few, len(claims)) if len(claims) <= 5 else [tuple(few[: len(claims)])]
    return list(max(orders, key=lambda order: sum(map(likeness, claims, order))))


def _presence(obj: ObjectReading) -> float:
    return float((obj.track[:, 2] > 0).mean())


def judge(said: Claims | Scene | str, reading: Reading) -> dict[str, bool]:
    """Which named attributes a clip has: "objects" (how many), "color", "shape", "size", "motion" (of all objects
    that name one), "background", "background_color", "camera", "light", "occluder", and "whole" for all of them."""
    if isinstance(said, str):
        said = parse(said)
    elif isinstance(said, Scene):
        said = claims_of(said)
    verdict: dict[str, bool] = {}
    if said.objects:
        verdict["objects"] = len(said.objects) == len(reading.objects)
        pairs = list(zip(said.objects, match(said.objects, reading.objects), strict=True))
        for attribute in OBJECT_ATTRIBUTES:
            named = [(getattr(c, attribute), o) for c, o in pairs if getattr(c, attribute) is not None]
            if named:
                verdict[attribute] = all(o is not None and v == getattr(o, attribute) for v, o in named)
    for attribute in SCENE_ATTRIBUTES:
        value = getattr(said, attribute)
        if value is not None:
            verdict[attribute] = value == getattr(reading, attribute)
    verdict["whole"] = all(verdict.values())
    return verdict
