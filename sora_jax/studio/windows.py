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
    stops = dict(held)
    # A later side that fills no latent is gone on from first: it can begin a window. At the timeline's end its last
    # frame stands for the rest of the latent.
    gap, end = next((a, b) for a, b in _runs(~known) if stops.get(b, n) == n or stops[b] - b >= factor)
    after = stops.get(end, end) - end
    if gap == 0:
        # Backwards, in whole latents.
        kept = min(max(context - 1, factor), after // factor * factor) or factor
        return end + kept - length, end + kept
    before = gap - next(a for a, b in held if b == gap)
    between = _between(end - gap, before, after, length, factor, ends=end + after == n)
    if between:
        return gap - between[0], gap + between[1]
    kept = 1 + factor * ((min(context, before) - 1) // factor)
    # What leads over to a later side sees it.
    new = max(1, end - gap - factor) // factor * factor if after else end - gap
    return gap - kept, gap - kept + min(length, kept + factor * max(1, -(-new // factor)))


def _between(
    gap: int, before: int, after: int, length: int, factor: int, *, ends: bool
) -> tuple[int, int] | None:
    """Frames from a gap's start back to its window's, and on to its stop, if both sides fit in, each with a latent.

    It has about as much of each side, less where there is no more to see. `ends`: the later side is the timeline's end.
    """
    shared = -gap % factor
    free = length - gap - shared
    if not after or free < 1 + factor:
        return None
    early = 0
    if after < shared + (1 if ends else factor):
        # So few frames that the later side must begin with a latent; then the earlier one shares one with the gap.
        early, shared = shared, 0
    half = 1 + factor * max(0, round((free / 2 - 1) / factor))
    kept = min(half, 1 + factor * ((before - 1 - early) // factor))
    if kept < 1:
        return None
    seen = -(-(after - shared) // factor) if ends else (after - shared) // factor
    most = (length - kept - early - gap - shared) // factor
    return kept + early, gap + shared + factor * min(seen, most)


def latent_unknown(unknown: Bool[np.ndarray, "n *space"], factor: int) -> Bool[np.ndarray, "t *space"]:
    """Which latents hold an unknown frame; the first is of one frame, and each other of `factor`."""
    rest = unknown[1:].reshape(-1, factor, *unknown.shape[1:]).any(axis=1)
    return np.concatenate([unknown[:1], rest])
