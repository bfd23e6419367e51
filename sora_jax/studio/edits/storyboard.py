"""A clip from cards on a timeline: each says what is shown from its time on, in words, as an image or as a clip."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Unpack

import numpy as np

from sora_jax.media import Clip
from sora_jax.studio.edits.making import Plan, check_room, finish, frame_of, frames_of, prepare, to_frames
from sora_jax.studio.image import Picture
from sora_jax.studio.request import SEEDS, seeds_of
from sora_jax.studio.size import resolve_size
from sora_jax.studio.sources import Source, open_clip
from sora_jax.studio.timeline import Settings

if TYPE_CHECKING:
    from sora_jax.studio.pipeline import Pipeline

__all__ = ["Card", "storyboard"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Card:
    """What is shown from a moment on."""

    at: float
    """Seconds from the clip's start."""
    prompt: str | None = None
    """None goes on with the words of the card before."""
    image: Picture | None = None
    clip: Source | None = None
    cut: bool = False
    """A new shot begins here, which nothing of the one before goes into."""

    def __post_init__(self):
        if self.image is not None and self.clip is not None:
            raise ValueError(f"the card at {self.at:g} s has an image and a clip: give one, or two cards.")
        if self.prompt is None and self.image is None and self.clip is None:
            raise ValueError(f"the card at {self.at:g} s is empty: give it a prompt, an image or a clip.")


def storyboard(
    pipeline: "Pipeline",
    cards: Sequence[Card],
    *,
    seconds: float,
    size: str | tuple[int, int] | None = None,
    aspect: str | None = None,
    fps: float | None = None,
    **settings: Unpack[Settings],
) -> Clip:
    """A clip of `seconds` that shows each card from its time until the next one's.

    Raises ValueError for cards out of order, outside the clip or over one another, and where the first has no words.
    """
    clip = resolve_size(pipeline.config, size=size, aspect=aspect, fps=fps)
    check_room(pipeline, (clip.height, clip.width))
    count = frames_of(seconds, clip.fps)
    starts = [to_frames(card.at, clip.fps) for card in cards]
    if not cards or starts[0] != 0 or cards[0].prompt is None:
        raise ValueError("a storyboard begins with a card at 0 s that has a prompt: add one.")
    for card, start, following in zip(cards, starts, [*starts[1:], count], strict=True):
        if following <= start:
            raise ValueError(
                f"the card at {card.at:g} s is not before the next one, or lies outside the clip of {seconds:g} s: "
                "give cards in order, at least a frame apart."
            )
    shots = [i for i, card in enumerate(cards) if i == 0 or card.cut]
    seeds = [(seeds_of(settings.get("seed", 0), 1)[0] + first) % SEEDS for first in range(len(cards))]
    plans = [
        _shot(pipeline, cards[first:last], starts[first:last], end, clip, {**settings, "seed": seeds[first]})
        for first, last, end in zip(
            shots, [*shots[1:], len(cards)], [*(starts[i] for i in shots[1:]), count], strict=True
        )
    ]
    made = [finish(pipeline, plan) for plan in plans]
    frames = np.concatenate([shot.frames for shot in made])
    prompts = [card.prompt for card in cards]
    about = {
        "prompt": prompts,
        "seed": seeds[0],
        "cards_at": [card.at for card in cards],
        "cuts_at": [cards[i].at for i in shots[1:]],
    }
    return Clip(frames, clip.fps, {**made[0].metadata, **about})


def _shot(pipeline, cards, starts, end, size, settings: Settings) -> Plan:
    """The frames from the first card to `end`."""
    first, sides = starts[0], (size.height, size.width)
    count, factor = end - first, pipeline.config.vae.temporal_factor
    frames, known = np.zeros((count, *sides, 3), np.float32), np.zeros(count, bool)
    prompts: list[str] = []
    shares = []
    for card, start, following in zip(cards, starts, [*starts[1:], end], strict=True):
        start, following = start - first, following - first
        if card.prompt is not None or not prompts:
            prompts.append(card.prompt or "")
        at = np.arange(count)
        shares.append((len(prompts) - 1, (at >= start) & (at < following)))
        shown = None
        if card.image is not None:
            # For as long as the frames last that share its latent.
            start = (start - 1) // factor * factor + 1 if start else 0
            held = min(start + factor if start else 1, count) - start
            shown = np.repeat(frame_of(card.image, sides), held, axis=0)
        elif card.clip is not None:
            shown = open_clip(pipeline.config, card.clip, lambda *_: sides, size.fps).frames
            if len(shown) > following - start:
                raise ValueError(
                    f"the clip of the card at {card.at:g} s lasts {len(shown) / size.fps:g} s and runs into the next "
                    "card: move that, or cut the clip."
                )
        if shown is not None:
            place = slice(start, start + len(shown))
            if known[place].any():
                raise ValueError(
                    f"what the card at {card.at:g} s shows shares a latent of {factor} frames with an image of the one "
                    f"before: move it by {factor / size.fps:g} s."
                )
            frames[place], known[place] = shown, True
    if not prompts[0]:
        raise ValueError(f"the shot that begins at {cards[0].at:g} s has no prompt: give its first card one.")
    each = np.zeros((len(prompts), count), np.float32)
    for k, where in shares:
        each[k, where] = 1
    return prepare(
        pipeline,
        "storyboard",
        frames,
        known,
        size.fps,
        prompts,
        settings,
        shares=each if len(prompts) > 1 else None,
    )
