"""Steps that would harm the run change nothing: one whose loss or gradient isn't finite, or is many times the usual.

With the medians m of the last w finite losses L and gradient norms |g|, step n is skipped if L_n or |g_n| is not
finite, or L_n > f·m_L or |g_n| > f·m_g (PaLM passed over such batches by hand, arXiv 2204.02311). It is decided on the
device, so that no step waits for the host; parameters, moving average and optimizer state stay as they were.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from sora_jax.train.state import TrainState
from sora_jax.train.step import train_step
from sora_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Skip:
    """Which steps are passed over, and how many of them a run bears."""

    factor: float = 10.0
    """A step is skipped whose loss or gradient norm is above so many medians; inf: only one that isn't finite."""
    window: int = 100
    """Steps that the median is taken over; before there are so many, only what isn't finite is skipped."""
    at_most: int = 10
    """The run stops when more of the last `window` steps than this were skipped."""

    def __post_init__(self):
        if not self.factor > 1:
            raise ValueError(f"skip: factor is {self.factor}: it must be above 1, or inf for no such rule.")
        if self.window < 1:
            raise ValueError(f"skip: window is {self.window}: it must be at least 1.")
        if self.at_most < 0:
            raise ValueError(f"skip: at_most is {self.at_most}: it must not be negative.")


@struct.dataclass
class Recent:
    """The last steps, as rings of `window` entries."""

    loss: Array
    """float32, finite ones alone."""
    gradient_norm: Array
    seen: Array
    """int32, how many were finite since the start."""
    skipped: Array
    """bool, of step n at n mod `window`."""

    @classmethod
    def none(cls, window: int) -> "Recent":
        """Before the first step, on the host."""
        zeros = np.zeros(window, np.float32)
        rings: Any = {"loss": zeros, "gradient_norm": zeros.copy(), "skipped": np.zeros(window, bool)}
        return cls(**rings, seen=np.zeros((), np.int32))  # pyright: ignore[reportArgumentType]

    @classmethod
    def from_json(cls, found: dict[str, Any] | None, window: int) -> "Recent":
        """What `to_json` gave; a fresh start where there is nothing, or it is of another window."""
        fresh = cls.none(window)
        if found is None or len(found["loss"]) != window:
            return fresh
        read: Any = {name: np.asarray(value, getattr(fresh, name).dtype) for name, value in found.items()}
        return cls(**read)

    def to_json(self) -> dict[str, Any]:
        """Lists of numbers, exact."""
        return {
            field.name: np.asarray(getattr(self, field.name)).tolist() for field in dataclasses.fields(self)
        }


def judge(recent: Recent, step: Array, loss: Array, gradient_norm: Array, rule: Skip) -> tuple[Array, Recent]:
    """Whether to skip step number `step` (bool []), and `recent` with this step in it."""
    window = recent.loss.shape[0]

    def high(value, past):
        return value > rule.factor * jnp.abs(jnp.sort(past)[window // 2])

    finite = jnp.isfinite(loss) & jnp.isfinite(gradient_norm)
    spike = high(loss, recent.loss) | high(gradient_norm, recent.gradient_norm)
    skip = ~finite | ((recent.seen >= window) & spike)
    place = recent.seen % window

    def put(past, value):
        return past.at[place].set(jnp.where(finite, value.astype(past.dtype), past[place]))

    return skip, Recent(
        loss=put(recent.loss, loss),
        gradient_norm=put(recent.gradient_norm, gradient_norm),
        seen=recent.seen + finite.astype(jnp.int32),
        skipped=recent.skipped.at[step % window].set(skip),
    )


def guarded_step(
    state: TrainState, recent: Recent, batch: Any, key: Array, *, rule: Skip, **options: Any
) -> tuple[TrainState, Recent, dict[str, Array]]:
    """`train_step`, whose other keywords these are, unless it is one to skip: then only the step's number moves on.

    The metrics gain `skip`, bool, and `skipped`, int32: how many of the last `rule.window` steps were.
    """
    stepped, metrics = train_step(state, batch, key, **options)
    skip, recent = judge(recent, state.step, metrics["loss"], metrics["gradient_norm"], rule)
    kept = jax.tree.map(lambda old, new: jnp.where(skip, old, new), state, stepped)
    metrics = {**metrics, "skip": skip, "skipped": jnp.sum(recent.skipped, dtype=jnp.int32)}
    return kept.replace(step=stepped.step), recent, metrics
