"""Makes a clip from cards on a timeline.

sora-jax storyboard story.json --seconds 6

The file is a list of cards, each with "at" (seconds) and one or more of "prompt", "image", "clip" (files beside it) and
"cut" (true begins a new shot):

[{"at": 0, "prompt": "a red circle moves right"}, {"at": 3, "prompt": "a blue star spins", "cut": true}]

sora-jax storyboard --script "a red circle moves right, then it grows. Cut to a blue star." --seconds 6

Cards of a script are its sentences; with --chat an endpoint writes them.
"""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from sora_jax.cli.edit import UNSET, Edit, edit, source

__all__ = ["Args", "run"]


@dataclass(frozen=True, kw_only=True)
class Args(Edit):
    """Options of `sora-jax storyboard`."""

    cards: Annotated[tyro.conf.Positional[Path | None], UNSET] = None
    """The file of cards."""
    script: Annotated[str | None, UNSET] = None
    """In place of it a text to make cards of, or a .txt file that holds one; the cards are shown."""
    seconds: float
    """How long the clip is."""
    aspect: Annotated[str | None, UNSET] = None
    """WIDTH:HEIGHT, in place of size."""


KINDS: dict[str, tuple[type, ...]] = {
    "at": (int, float),
    "prompt": (str,),
    "image": (str,),
    "clip": (str,),
    "cut": (bool,),
}


def _cards(path: Path) -> list[Any]:
    from sora_jax.studio.edits import Card
    from sora_jax.studio.image import pixels_of

    if path.stat().st_size > 1 << 20:
        raise ValueError(f"{path} is over 1 MiB: a file of cards is a short list.")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path} isn't JSON ({error}): write a list of cards.") from None
    if not isinstance(found, list) or not all(isinstance(card, dict) for card in found):
        raise ValueError(
            f'{path} must hold a list of cards, as in [{{"at": 0, "prompt": "a red circle spins"}}].'
        )
    cards = []
    for place, card in enumerate(found, 1):
        for name, value in card.items():
            if name not in KINDS or not isinstance(value, KINDS[name]):
                raise ValueError(
                    f"card {place} of {path}: {name} is {value!r}; a card has {', '.join(KINDS)}."
                )
        if "at" not in card:
            raise ValueError(f'card {place} of {path} has no time: give it "at", in seconds.')
        files = {"image": pixels_of, "clip": source}
        shown = {name: files[name](path.parent / card[name]) for name in files if name in card}
        cards.append(Card(**{**card, **shown}))
    return cards


def _of_script(args: Args, script: str) -> list[Any]:
    from sora_jax.studio.expand import cards_of

    cards = cards_of(script, args.seconds, args.endpoint())
    for card in cards:
        print(f"card at {card.at:g} s{', a cut' * card.cut}: {card.prompt}", file=sys.stderr)
    return cards


def run(args: Args) -> int:
    """Makes the storyboard and writes it; prints the file's path."""
    if (args.cards is None) == (args.script is None):
        raise ValueError("the cards come of a file or of a script: give one of cards and --script.")
    if args.cards is not None:
        cards, name, about = _cards(args.cards), args.cards.stem, {}
    else:
        name = script = args.script or ""
        if script.endswith(".txt"):
            name, script = Path(script).stem, Path(script).read_text(encoding="utf-8")
        cards, about = _of_script(args, script), {"script": script}
    return edit(
        args,
        name,
        lambda pipeline, settings: pipeline.storyboard(
            cards, seconds=args.seconds, aspect=args.aspect, **settings
        ),
        about,
    )
