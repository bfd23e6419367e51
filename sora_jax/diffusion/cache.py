"""Steps without an evaluation: along most of a run the clip that the network sees in the noise changes little.

    v_i = (x_i - x̂_j) / σ_i  where error_i < threshold,   x̂_j = x_j - σ_j·v_j,  j the last step that was evaluated

Along a deterministic path that is the last velocity again; where a sampler adds fresh noise, v_j would hold the old.

A rule says how the error is known without the velocity. TeaCache (arXiv 2411.19108) adds up how much a cheap signal,
the first block's modulated input, changed at each step; first-block caching (of ParaAttention) compares the first
block's whole output with that of step j; MagCache (arXiv 2506.09045) needs no signal but the ratios γ of the
magnitudes of successive velocities, measured once, and adds up |1 - γ_{j+1}···γ_i|. They are published for the
hidden states of each half of guidance; here what is kept is the guided prediction, so that both halves are skipped.

With `order` 1 the prediction goes on along its slope between the last two evaluations (TaylorSeer, arXiv 2503.06923).
"""

import dataclasses
import functools
import math
from collections.abc import Callable
from typing import Any, Protocol

import jax
import jax.numpy as jnp

from sora_jax.diffusion.flow import align, data_from_velocity, velocity_from_data
from sora_jax.typing import Array, Bool, Float, Int, PyTree

State = dict[str, Array]
Signal = Callable[[Array, Array, PyTree], Array]
"""x, sigma, cond as the velocity takes them -> [b, ...], cheap to have and changing as the velocity does."""


class Rule(Protocol):
    """When to skip. A pytree: its numbers are data, so one compiled program serves every threshold."""

    threshold: Any

    def start(self, signal: Array) -> State:
        """The rule's own state before the first step, for a signal of this shape."""
        ...

    def judge(self, state: State, signal: Array, i: Int[Array, ""]) -> tuple[Array, State, State]:
        """(error of skipping step i, the rule's state if it is skipped, its state if it is evaluated)."""
        ...


def _rule(kind):
    names = [field.name for field in dataclasses.fields(kind)]
    return jax.tree_util.register_dataclass(kind, data_fields=names, meta_fields=[])


def change(now: Float[Array, "b ..."], before: Float[Array, "b ..."]) -> Float[Array, ""]:
    """mean |now - before| / mean |before| of the clip of the batch where it is largest."""
    axes = tuple(range(1, now.ndim))
    far = jnp.mean(jnp.abs(now - before), axis=axes) / jnp.maximum(
        jnp.mean(jnp.abs(before), axis=axes), 1e-12
    )
    return jnp.max(far)


@_rule
@dataclasses.dataclass(frozen=True, kw_only=True)
class TeaCache:
    """Σ p(change of the signal from step to step) since the last evaluation, p a polynomial fitted to a model."""

    threshold: Any = 0.1
    coefficients: Any = (1.0, 0.0)
    """Of p, highest power first."""

    def start(self, signal):
        return {"signal": jnp.zeros_like(signal), "error": jnp.float32(0)}

    def judge(self, state, signal, i):
        powers = jnp.asarray(self.coefficients, jnp.float32)
        error = state["error"] + jnp.polyval(powers, change(signal, state["signal"]))
        return error, {"signal": signal, "error": error}, {"signal": signal, "error": jnp.float32(0)}


@_rule
@dataclasses.dataclass(frozen=True, kw_only=True)
class FirstBlock:
    """The change of the signal, which is what the first block adds, since the last evaluation."""

    threshold: Any = 0.1

    def start(self, signal):
        return {"signal": jnp.zeros_like(signal)}

    def judge(self, state, signal, i):
        error = change(signal, state["signal"])
        return error, {"signal": state["signal"]}, {"signal": signal}


@_rule
@dataclasses.dataclass(frozen=True, kw_only=True)
class MagCache:
    """Σ |1 - Π γ| since the last evaluation, γ_i = ‖v_i‖ / ‖v_{i-1}‖ measured in a run of the same steps."""

    threshold: Any = 0.06
    ratios: Any = (1.0,)
    """γ of each step [steps], as `magnitude_ratios` gives them."""

    def start(self, signal):
        return {"ratio": jnp.float32(1), "error": jnp.float32(0)}

    def judge(self, state, signal, i):
        ratios = jnp.asarray(self.ratios, jnp.float32)
        ratio = state["ratio"] * ratios[jnp.minimum(i, len(ratios) - 1)]
        error = state["error"] + jnp.abs(1 - ratio)
        return error, {"ratio": ratio, "error": error}, {"ratio": jnp.float32(1), "error": jnp.float32(0)}


def magnitude_ratios(velocities: Float[Array, "steps b t h w c"]) -> Float[Array, "steps"]:
    """γ_i = mean over the tokens of ‖v_i‖ / ‖v_{i-1}‖, and 1 for the first step."""
    norms = jnp.maximum(jnp.linalg.norm(velocities.astype(jnp.float32), axis=-1), 1e-8)
    ratios = jnp.mean(norms[1:] / norms[:-1], axis=tuple(range(1, norms.ndim)))
    return jnp.concatenate([jnp.ones(1), ratios])


@functools.partial(
    jax.tree_util.register_dataclass, data_fields=["rule"], meta_fields=["order", "first", "last", "longest"]
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class StepCache:
    """How steps are skipped: the rule, and the steps that it isn't asked about."""

    rule: Any
    order: int = 0
    """0 repeats the last prediction, 1 goes on along its slope."""
    first: float = 0.1
    """Part of the run at its start, one step at least, that is always evaluated."""
    last: int = 1
    """Steps at the end that are always evaluated."""
    longest: int = 5
    """Steps skipped in a row at most."""

    def asked(self, i: Int[Array, ""], steps: int) -> Bool[Array, ""]:
        """Whether step i of the run may be skipped at all."""
        return (i >= max(1, math.ceil(self.first * steps))) & (i < steps - self.last)


@dataclasses.dataclass(frozen=True)
class Cached:
    """A velocity that remembers; what it remembers travels with the generation (see `prepare`)."""

    velocity: Callable[[Array, Array, PyTree], Array]
    cache: StepCache
    signal: Signal | None = None

    def start(self, x: Array, sigma: Array, cond: PyTree) -> State:
        """The state before the first step, for x [b, t, h, w, c] and sigma as the velocity takes them."""
        seen = self._signal
        shape = jax.eval_shape(lambda *inputs: seen(*inputs), x, sigma, cond)
        nothing, level = jnp.zeros_like(x), jnp.zeros_like(sigma)
        state = {
            "data": nothing,
            "sigma": level,
            **self.cache.rule.start(jnp.zeros(shape.shape, shape.dtype)),
        }
        counts = ("age", "skipped", "evaluations")
        state |= {name: jnp.int32(0) for name in counts}
        return state | ({"data_1": nothing, "sigma_1": level} if self.cache.order else {})

    def __call__(
        self, x: Array, sigma: Array, cond: PyTree, state: State, i: Array, steps: int, changed: Array
    ) -> tuple[Array, State]:
        """v at step i, and the state after it; `changed` says that the condition isn't that of the step before."""
        signal = self._signal(x, sigma, cond)
        error, if_skipped, if_evaluated = self.cache.rule.judge(state, signal, i)
        may = self.cache.asked(i, steps) & (state["age"] > 0) & ~changed
        skip = may & (state["skipped"] < self.cache.longest) & (error < self.cache.rule.threshold)

        def reuse():
            return self._forecast(x, sigma, state), state | if_skipped | {"skipped": state["skipped"] + 1}

        def evaluate():
            v = self.velocity(x, sigma, cond).astype(jnp.float32)
            seen = {"data": data_from_velocity(x, v, sigma), "sigma": sigma}
            after = state | if_evaluated | seen | {"skipped": jnp.int32(0)}
            after |= {name: state[name] + 1 for name in ("age", "evaluations")}
            if self.cache.order:
                # After a change of the condition the slope would be between two different predictions.
                after |= {
                    "data_1": state["data"],
                    "sigma_1": state["sigma"],
                    "age": jnp.where(changed, 1, after["age"]),
                }
            return v, after

        return jax.lax.cond(skip, reuse, evaluate)

    def _signal(self, x, sigma, cond):
        return jnp.zeros((x.shape[0], 1)) if self.signal is None else self.signal(x, sigma, cond)

    def _forecast(self, x, sigma, state):
        data = state["data"]
        if self.cache.order:
            data = data + self._slope(sigma, state) * (data - state["data_1"])
        return velocity_from_data(x, data, sigma)

    def _slope(self, sigma, state):
        far, apart = sigma - state["sigma"], state["sigma"] - state["sigma_1"]
        known = (apart != 0) & (state["age"] > 1)
        return align(jnp.where(known, far / jnp.where(known, apart, 1), 0), state["data"])


def cached(velocity: Callable[..., Array], cache: StepCache, signal: Signal | None = None) -> Cached:
    """`velocity`, guided or not, evaluated only where the cache's rule asks for it.

    Raises:
        ValueError: the rule reads a signal, and none is given.
    """
    if signal is None and not isinstance(cache.rule, MagCache):
        raise ValueError(f"{type(cache.rule).__name__} reads a signal of the network: give `signal`")
    return Cached(velocity, cache, signal)


RULES = {"tea": TeaCache, "first-block": FirstBlock, "mag": MagCache}
DEFAULT_RULE = "tea"


def step_cache(setting: "float | str | StepCache") -> StepCache:
    """A cache from a threshold, 0.1, or a rule's name with one, "tea:0.1", "first-block:0.05".

    Raises:
        ValueError: there is no such rule, the threshold isn't a positive number, or the rule needs measured ratios.
    """
    if isinstance(setting, StepCache):
        return setting
    name, _, number = str(setting).rpartition(":")
    name = name or DEFAULT_RULE
    if name not in RULES:
        raise ValueError(f"there is no caching rule {name!r}; choose one of {', '.join(RULES)}")
    try:
        threshold = float(number)
    except ValueError:
        threshold = math.nan
    if not (math.isfinite(threshold) and threshold > 0):
        raise ValueError(f"the cache's threshold is {number!r}; give a number above 0, such as 0.1")
    if name == "mag":
        raise ValueError(
            "MagCache needs the ratios of a measured run; in Python, give StepCache(rule=MagCache(ratios=...)) with "
            "those that `sora-jax bench cache --json` prints"
        )
    return StepCache(rule=RULES[name](threshold=threshold))


def setting_of(cache: StepCache) -> str:
    """What `step_cache` reads, as far as a name and a threshold tell it."""
    name = next(name for name, kind in RULES.items() if isinstance(cache.rule, kind))
    return f"{name}:{float(cache.rule.threshold):g}"
