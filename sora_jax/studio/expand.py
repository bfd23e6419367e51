"""Short prompts become detailed ones before sampling, and a script becomes the cards of a storyboard.

By the playground's own grammar, or by any chat endpoint that speaks OpenAI's protocol (`Chat`).
"""

import dataclasses
import json
import re
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

from sora_jax.studio.edits.storyboard import Card

__all__ = ["Chat", "Expand", "by_grammar", "cards_of", "expand_with"]

Expand = Callable[[str], str]
"""A short prompt -> a detailed one."""

LONGEST_ANSWER = 1 << 20
ASK = (
    "Rewrite the user's prompt for a text-to-video model: one or two plain sentences that name every subject, what it "
    "does, where, the background, the camera and the light. Keep all that it says, add only what fits. Answer with the "
    "prompt alone."
)
ASK_CARDS = (
    "Split the user's script into the shots of a video of {seconds:g} seconds. Answer with JSON alone: a list of "
    'objects with "at" (seconds, rising, the first 0), "prompt" (what is seen, one sentence that names who or what '
    'does it) and "cut" (whether a new shot begins).'
)


def by_grammar(prompt: str, seed: int = 0) -> str:
    """The prompt as a long caption of the playground's: what it names stays, what it leaves open is chosen by `seed`.

    A prompt that names no shape of that world comes back as it is.
    """
    from sora_jax.data.playground.captions import caption
    from sora_jax.data.playground.claims import OBJECT_ATTRIBUTES, parse
    from sora_jax.data.playground.scene import draw_scene
    from sora_jax.data.playground.world import COLORS

    claims = parse(prompt)
    if not claims.objects:
        return prompt
    named = ("background", "background_color", "camera", "light", "occluder")
    setting = {name: value for name in named if (value := getattr(claims, name)) is not None}
    calm = {"camera": "still", "light": "steady", "occluder": False}
    scene = draw_scene(seed, split="all", objects=min(len(claims.objects), 3))
    free = [color for color in COLORS if color not in {one.color for one in claims.objects}]
    objects = []
    for drawn, claim in zip(scene.objects, claims.objects, strict=False):
        said = {name: value for name in OBJECT_ATTRIBUTES if (value := getattr(claim, name)) is not None}
        color = drawn.color if drawn.color in free else free[0]
        objects.append(dataclasses.replace(drawn, **{"color": color, "motion": "stays still", **said}))
        free = [other for other in free if other != objects[-1].color]
    scene = dataclasses.replace(scene, objects=tuple(objects), **{**calm, **setting})
    return caption(scene, seed, "long")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Chat:
    """A chat endpoint: `url` as in "http://localhost:8000/v1", the model's name there, and a key where it wants one."""

    url: str
    model: str
    key: str = dataclasses.field(default="", repr=False)
    timeout: float = 60.0
    """Seconds."""

    def __post_init__(self):
        if not self.url.startswith(("http://", "https://")):
            raise ValueError(f"the chat endpoint {self.url!r} must begin with http:// or https://.")

    def ask(self, task: str, text: str) -> str:
        """The model's answer. Raises OSError where the endpoint gives none."""
        messages = [{"role": "system", "content": task}, {"role": "user", "content": text}]
        body = json.dumps({"model": self.model, "messages": messages, "temperature": 0.7}).encode()
        headers = {"Content-Type": "application/json"}
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        asked = urllib.request.Request(f"{self.url.rstrip('/')}/chat/completions", body, headers)
        try:
            with urllib.request.urlopen(asked, timeout=self.timeout) as answer:
                found = json.loads(answer.read(LONGEST_ANSWER))
            said = found["choices"][0]["message"]["content"]
        except urllib.error.HTTPError as error:
            raise OSError(
                f"{self.url} answers {error.code} {error.reason}: check its URL, model and key."
            ) from None
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise OSError(f"{self.url} gives no chat answer ({error}): check that it runs.") from None
        if not isinstance(said, str) or not said.strip():
            raise OSError(f"{self.url} answers with no text: try another model.")
        return said.strip()


def expand_with(chat: Chat | None, seed: int = 0) -> Expand:
    """What makes a short prompt long: the endpoint, or the playground's grammar where there is none."""
    if chat is None:
        return lambda prompt: by_grammar(prompt, seed)
    return lambda prompt: " ".join(chat.ask(ASK, prompt).split())


def cards_of(script: str, seconds: float, chat: Chat | None = None) -> list[Card]:
    """The cards of a script: by the endpoint, or one for each sentence, as long as each other.

    A sentence that begins with "cut to" begins a new shot; one without a subject, as in "it grows", goes on with that
    of the card before. Raises ValueError for a script with nothing to show.
    """
    if chat is not None:
        return _cards(chat.ask(ASK_CARDS.format(seconds=seconds), script))
    parts = re.split(r"[.;\n]+|,?(?: and)? then ", script)
    sentences = [part.strip(" ,") for part in parts if part.strip(" ,")]
    if not sentences:
        raise ValueError("the script is empty: write what is seen, one sentence for each card.")
    cards, before = [], ""
    for place, sentence in enumerate(sentences):
        prompt, cuts = re.subn(r"^cut to:?\s+", "", sentence, flags=re.IGNORECASE)
        before = _with_subject(prompt, before)
        cards.append(Card(at=seconds * place / len(sentences), prompt=before, cut=bool(cuts and place)))
    return cards


def _with_subject(prompt: str, before: str) -> str:
    """The prompt with what the one before it shows as its subject, where it names none, or only as "the star"."""
    from sora_jax.data.playground.claims import parse

    shown, said = parse(before).objects, parse(prompt).objects
    if shown and not said:
        subject = " and ".join(map(_noun, shown))
        rest = re.sub(r"^(?:it|they|this|that|these|those|he|she)\b\s*", "", prompt, flags=re.IGNORECASE)
        moves = parse(f"{subject} {rest}").objects[-1].motion is not None
        return f"{subject} {rest}" if moves else f"{subject} while {prompt[0].lower()}{prompt[1:]}"
    for one in said:
        same = [other for other in shown if other.shape == one.shape]
        if len(same) == 1 and one.color is None:
            prompt = re.sub(rf"\bthe {one.shape}\b", _noun(same[0]), prompt, count=1, flags=re.IGNORECASE)
    return prompt


def _noun(one: Any) -> str:
    words = " ".join(filter(None, (one.size, one.color, one.shape)))
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def _cards(answer: str) -> list[Card]:
    found = re.search(r"\[.*\]", answer, re.DOTALL)
    try:
        listed: list[dict[str, Any]] = json.loads(found[0] if found else answer)
        return [
            Card(at=float(one["at"]), prompt=str(one["prompt"]), cut=bool(one.get("cut", False)))
            for one in listed
        ]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise OSError(
            f"the chat endpoint answers with no list of cards ({error}): try another model."
        ) from None
