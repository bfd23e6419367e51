"""Random noise levels and masks for training: every edit of the studio is a case that the model has seen.

    σ[t, h, w] = level[t] where unknown[t, h, w], else 0        (diffusion forcing, arXiv 2407.01392)

A draw has two parts: what is known (nothing, the head, the tail, ...: `Known`), and the levels of the rest
(one for the clip, one per frame, or rising along time). Everything is a pure function of a key.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.typing import Array, Bool, Float, PRNGKeyArray, typed


@dataclasses.dataclass(frozen=True, kw_only=True)
class LevelMix:
    """How often each draw comes. The weights of each of the two groups are divided by their sum.

    Known: `nothing`; `head`, `tail`, `ends` (head and tail); `frames` (any); `window` (all but a window);
    `inside` (all but a box in space), `outside` (only such a box). A box lasts the clip or a window of it.
    Levels of the unknown frames: `together` (one), `independent`, `rising` along time.
    """

    nothing: float = 0.5
    head: float = 0.12
    tail: float = 0.06
    ends: float = 0.06
    frames: float = 0.06
    window: float = 0.06
    inside: float = 0.08
    outside: float = 0.06

    together: float = 0.75
    independent: float = 0.15
    rising: float = 0.10

    def __post_init__(self):
        for group in (self.known, self.levels):
            if min(group) < 0 or not sum(group) > 0:
                raise ValueError(f"the weights are {group}; none may be negative and one must be positive")

    @property
    def known(self) -> tuple[float, ...]:
        return tuple(getattr(self, name) for name in KNOWN)

    @property
    def levels(self) -> tuple[float, ...]:
        return (self.together, self.independent, self.rising)

    @property
    def spatial(self) -> bool:
        """Whether a mask can differ within a frame."""
        return self.inside > 0 or self.outside > 0


KNOWN = ("nothing", "head", "tail", "ends", "frames", "window", "inside", "outside")

# Nothing known and one level for all.
TEXT_TO_VIDEO = LevelMix(
    **{name: float(name == "nothing") for name in KNOWN}, together=1.0, independent=0.0, rising=0.0
)


def _below(u, n):
    """An integer in [0, n) from u in [0, 1)."""
    return jnp.minimum((u * jnp.asarray(n, jnp.float32)).astype(jnp.int32), n - 1)


def _pick(u, weights):
    """The place of one of the weights, each as often as its share."""
    edges = np.cumsum(weights)[:-1] / np.sum(weights)
    return jnp.sum(u >= edges.astype(np.float32))


def _span(u, n):
    """An interval of 1 to max(n - 1, 1) of n places, as a mask [n]."""
    length = 1 + _below(u[0], max(n - 1, 1))
    start = _below(u[1], n - length + 1)
    i = jnp.arange(n)
    return (i >= start) & (i < start + length)


def _head(u, t):
    return jnp.arange(t) < 1 + _below(u, max(t - 1, 1))


def _tail(u, t):
    return _head(u, t)[::-1]


def _ends(u, t):
    """At least one frame at each end, and at least one between, where there are three."""
    total = 2 + _below(u[0], max(t - 2, 1))
    head = 1 + _below(u[1], total - 1)
    i = jnp.arange(t)
    return (i < head) | (i >= t - (total - head))


def _frames(u, t):
    rank = jnp.argsort(u[1 : t + 1])
    return rank < 1 + _below(u[0], max(t - 1, 1))


def _box(u, shape):
    """A box of space, through the whole clip or a window of it: a mask [t, h, w]."""
    t, h, w = shape
    frames, rows, columns = _span(u[0:2], t), _span(u[2:4], h), _span(u[4:6], w)
    # One time in four each: as high, or as wide, as the frame.
    rows = rows | ((u[6] < 0.25) & (w > 1))
    columns = columns | ((u[6] > 0.75) & (h > 1))
    frames = frames | (u[7] < 0.5)
    return frames[:, None, None] & rows[None, :, None] & columns[None, None, :]


@typed
def draw_unknown(key: PRNGKeyArray, shape: tuple[int, int, int], mix: LevelMix) -> Bool[Array, "t #h #w"]:
    """Which tokens of a clip of `shape` (t, h, w) are unknown: [t, h, w], or [t, 1, 1] if `mix` has no boxes.

    At least one token is: a draw that would leave none (one frame, whose head is known) has all unknown.
    """
    t, h, w = shape
    grid = (t, h, w) if mix.spatial else (t, 1, 1)
    # One call for all the numbers, as each call of the generator is seconds of compiling.
    u = jax.random.uniform(key, (10 + t,))
    kind, u = u[0], u[1:]

    known = [_head(u[0], t), _tail(u[0], t), _ends(u, t), _frames(u, t), ~_span(u, t)]
    unknown = [jnp.ones(grid, bool)] + [jnp.broadcast_to(~frame[:, None, None], grid) for frame in known]
    if mix.spatial:
        box = _box(u, shape)
        unknown += [box, ~box]
    drawn = jnp.stack(unknown)[_pick(kind, mix.known[: len(unknown)])]
    return drawn | ~jnp.any(drawn)


@typed
def draw_levels(
    key: PRNGKeyArray,
    shape: tuple[int, int, int],
    mix: LevelMix = TEXT_TO_VIDEO,
    level: Callable[..., Array] = LogitNormal(),
) -> tuple[Float[Array, "t #h #w"], Bool[Array, "t #h #w"]]:
    """One clip's training levels σ in [0, 1] and its unknown tokens, each [t, h, w] or [t, 1, 1].

    `level(key, shape)` draws independent levels. Under jit, `shape`, `mix` and `level` are static.
    """
    t = shape[0]
    k_unknown, k_kind, k_level = jax.random.split(key, 3)
    unknown = draw_unknown(k_unknown, shape, mix)
    each = level(k_level, (t,))
    kinds = jnp.stack([jnp.broadcast_to(each[0], (t,)), each, jnp.sort(each)])
    levels = kinds[_pick(jax.random.uniform(k_kind), mix.levels)]
    return jnp.where(unknown, levels[:, None, None], 0), unknown


@typed
def draw_batch(
    key: PRNGKeyArray,
    batch: int,
    shape: tuple[int, int, int],
    mix: LevelMix = TEXT_TO_VIDEO,
    level: Callable[..., Array] = LogitNormal(),
) -> tuple[Float[Array, "b t #h #w"], Bool[Array, "b t #h #w"]]:
    """`draw_levels` for each of `batch` clips: σ and unknown, each [b, t, h, w] or [b, t, 1, 1]."""
    keys = jax.random.split(key, batch)
    return jax.vmap(lambda k: draw_levels(k, shape, mix, level))(keys)
