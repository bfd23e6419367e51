"""Random noise levels and masks for training: every edit of the studio is a case that the model has seen.

    σ[t, h, w] = level[t] where unknown[t, h, w], else 0        (diffusion forcing, arXiv 2407.01392)

A draw has two parts: what is known (nothing, the head, the tail, ...: `Known`), and the levels of the rest
(one for the clip, one per frame, or rising along time). Everything is a pure function of a key.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp

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


def _span(key, n):
    """A random interval [start, stop) of 1 to max(n - 1, 1) of n places, as a mask [n]."""
    k_length, k_start = jax.random.split(key)
    length = jax.random.randint(k_length, (), 1, max(n, 2))
    start = jax.random.randint(k_start, (), 0, n - length + 1)
    i = jnp.arange(n)
    return (i >= start) & (i < start + length)


def _head(key, t):
    return jnp.arange(t) < jax.random.randint(key, (), 1, max(t, 2))


def _tail(key, t):
    return _head(key, t)[::-1]


def _ends(key, t):
    """At least one frame at each end, and at least one between, where there are three."""
    k_total, k_head = jax.random.split(key)
    total = jax.random.randint(k_total, (), 2, max(t, 3))
    head = jax.random.randint(k_head, (), 1, jnp.maximum(total, 2))
    i = jnp.arange(t)
    return (i < head) | (i >= t - (total - head))


def _frames(key, t):
    k_count, k_order = jax.random.split(key)
    return jax.random.permutation(k_order, t) < jax.random.randint(k_count, (), 1, max(t, 2))


def _box(key, shape):
    """A box of space, through the whole clip or a window of it: a mask [t, h, w]."""
    t, h, w = shape
    k_h, k_w, k_full, k_t, k_always = jax.random.split(key, 5)
    rows, columns, frames = _span(k_h, h), _span(k_w, w), _span(k_t, t)
    # One time in four each: as high, or as wide, as the frame.
    full = jax.random.uniform(k_full)
    rows = rows | ((full < 0.25) & (w > 1))
    columns = columns | ((full > 0.75) & (h > 1))
    frames = frames | jax.random.bernoulli(k_always)
    return frames[:, None, None] & rows[None, :, None] & columns[None, None, :]


@typed
def draw_unknown(key: PRNGKeyArray, shape: tuple[int, int, int], mix: LevelMix) -> Bool[Array, "t #h #w"]:
    """Which tokens of a clip of `shape` (t, h, w) are unknown: [t, h, w], or [t, 1, 1] if `mix` has no boxes.

    At least one token is: a draw that would leave none (one frame, whose head is known) has all unknown.
    """
    t, h, w = shape
    k_kind, *k = jax.random.split(key, 1 + len(KNOWN))
    grid = (t, h, w) if mix.spatial else (t, 1, 1)

    known = [_head(k[1], t), _tail(k[2], t), _ends(k[3], t), _frames(k[4], t), ~_span(k[5], t)]
    unknown = [jnp.ones(grid, bool)] + [jnp.broadcast_to(~frame[:, None, None], grid) for frame in known]
    if mix.spatial:
        unknown += [_box(k[6], shape), ~_box(k[7], shape)]
    weights = jnp.asarray(mix.known[: len(unknown)], jnp.float32)
    drawn = jnp.stack(unknown)[jax.random.choice(k_kind, len(unknown), p=weights / weights.sum())]
    return drawn | ~jnp.any(drawn)


@typed
def draw_levels(
    key: PRNGKeyArray,
    shape: tuple[int, int, int],
    mix: LevelMix = TEXT_TO_VIDEO,
    level: Callable[..., Array] = LogitNormal(),  # noqa: B008 (frozen)
) -> tuple[Float[Array, "t #h #w"], Bool[Array, "t #h #w"]]:
    """One clip's training levels σ in [0, 1] and its unknown tokens, each [t, h, w] or [t, 1, 1].

    `level(key, shape)` draws independent levels. Under jit, `shape`, `mix` and `level` are static.
    """
    t = shape[0]
    k_unknown, k_kind, k_one, k_each = jax.random.split(key, 4)
    unknown = draw_unknown(k_unknown, shape, mix)
    each = level(k_each, (t,))
    kinds = jnp.stack([jnp.broadcast_to(level(k_one, ()), (t,)), each, jnp.sort(each)])
    weights = jnp.asarray(mix.levels, jnp.float32)
    levels = kinds[jax.random.choice(k_kind, len(kinds), p=weights / weights.sum())]
    return jnp.where(unknown, levels[:, None, None], 0), unknown


@typed
def draw_batch(
    key: PRNGKeyArray,
    batch: int,
    shape: tuple[int, int, int],
    mix: LevelMix = TEXT_TO_VIDEO,
    level: Callable[..., Array] = LogitNormal(),  # noqa: B008 (frozen)
) -> tuple[Float[Array, "b t #h #w"], Bool[Array, "b t #h #w"]]:
    """`draw_levels` for each of `batch` clips: σ and unknown, each [b, t, h, w] or [b, t, 1, 1]."""
    keys = jax.random.split(key, batch)
    return jax.vmap(lambda k: draw_levels(k, shape, mix, level))(keys)
