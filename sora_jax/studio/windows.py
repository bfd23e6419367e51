"""Which windows fill the unknown frames of a timeline, in which order: a model sees a few seconds at once.

A window starts or ends with frames that are known by then, so that what it adds goes on from them.
"""

import dataclasses

import numpy as np

from sora_jax.typing import Bool

__all__ = ["Window", "context_frames", "latent_unknown", "plan_windows"]


@dataclasses.dataclass(frozen=True)
class Window:
    """Frames [start, stop) of a timeline; they may lie beyond its ends, where nothing is kept of them."""

    start: int
    stop: int


def _runs(mask: Bool[np.ndarray, "n"]) -> list[tuple[int, int]]:
    """The intervals [start, stop) in which `mask` is true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def context_frames(length: int, factor: int) -> int:
    """The 1 + k·factor known frames, about half of `length`, that a window goes on from."""
    return 1 + factor * max(0, round((length / 2 - 1) / factor))


def plan_windows(
    known: Bool[np.ndarray, "n"], length: int, factor: int, context: int | None = None
) -> list[Window]:
    """Windows of 1 + k·factor frames, at most `length`, after which all n frames are known.

    Args:
        known: which frames are known at first.
        length: frames that the model makes well at once, 1 + k·factor.
        factor: the VAE's, in time.
        context: known frames that a window goes on from, 1 + k·factor; about half of the length unless given.

    Raises ValueError for a length that leaves no room beside a known frame.
    """
    if length <= factor and len(known) > 1:
        raise ValueError(
            f"{length} frames at once are too few to go on from others: at least {1 + factor} must be."
        )
    known = known.copy()
    context = context_frames(length, factor) if context is None else context
    windows = []
    while not known.all():
        start, stop = _next_window(known, length, factor, context)
        windows.append(Window(start, stop))
        known[max(start, 0) : stop] = True
    return windows


def _next_window(known: np.ndarray, length: int, factor: int, context: int) -> tuple[int, int]:
    n, held = len(known), _runs(known)
    if not held:
        return 0, min(length, 1 + factor * -(-(n - 1) // factor))
    gap, end = _runs(~known)[0]
    if gap == 0:
        # Backwards from the first that is known. Its frames fill whole latents where they are a multiple of the factor.
        first, last = held[0]
        kept = min(max(context - 1, factor), (last - first) // factor * factor) or last - first
        return first + kept - length, first + kept
    before = gap - next(a for a, b in held if b == gap)
    kept = 1 + factor * ((min(context, before) - 1) // factor)
    after = next((b - a for a, b in held if a == end), 0)
    free = length - (end - gap)
    if after and free >= 1 + min(after, factor):
        # Both sides at once, with about as much of each; a window may be shorter where there is no more to see.
        half = 1 + factor * max(0, round((free / 2 - 1) / factor))
        kept = min(half, 1 + factor * ((before - 1) // factor))
        seen = min(length, kept + (end - gap) + after)
        shortest = kept + (end - gap)
        frames = max(1 + (seen - 1) // factor * factor, 1 + -(-(shortest - 1) // factor) * factor)
        return gap - kept, gap - kept + frames
    return gap - kept, gap - kept + min(length, 1 + factor * -(-(kept + end - gap - 1) // factor))


def latent_unknown(unknown: Bool[np.ndarray, "n *space"], factor: int) -> Bool[np.ndarray, "t *space"]:
    """Which latents hold an unknown frame; the first is of one frame, and each other of `factor`."""
    rest = unknown[1:].reshape(-1, factor, *unknown.shape[1:]).any(axis=1)
    return np.concatenate([unknown[:1], rest])
