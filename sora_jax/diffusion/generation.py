"""A generation in progress is a value: start -> step* -> finish.

    x[0] = (1 - σ[0])·source + σ[0]·ε,    x[i + 1] = stepper(x[i], σ[i], σ[i + 1], v),    σ = 0 where known

It is a pytree of arrays, so it can be kept, forked, edited, saved and resumed. The contract on bits: `run` is
the same program for any number of steps, so compiled once (with `steps` an array argument) it gives the same
bits whether it goes k and then m steps or k + m at once, whatever happened between. Another program (another
batch, another machine, `step` compiled by itself) may round differently.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from sora_jax.diffusion.cache import Cached
from sora_jax.diffusion.conditions import at_step, changed_at
from sora_jax.diffusion.flow import align, interpolate
from sora_jax.diffusion.samplers import Stepper, UniPC
from sora_jax.typing import Array, Bool, Float, Int, PRNGKeyArray, PyTree

Velocity = Callable[[Array, Array, PyTree], Array]
"""x [b, t, h, w, c], sigma [b, t, 1, 1] or [b, t, h, w], cond -> v [b, t, h, w, c]."""


@functools.partial(
    jax.tree_util.register_dataclass,
    data_fields=["x", "unknown", "sigmas", "step", "memory", "cache", "key"],
    meta_fields=["stepper"],
)
@dataclasses.dataclass(frozen=True, kw_only=True)
class Generation:
    """The latents on their way and all that the next step needs, but the model and its condition."""

    x: Float[Array, "b t h w c"]
    """Latents, float32. Known tokens have their values from the start."""
    unknown: Bool[Array, "#b #t #h #w"]
    sigmas: Float[Array, "levels ..."]
    """Noise levels [steps + 1], [steps + 1, t] or [steps + 1, b, t]."""
    step: Int[Array, ""]
    """Steps done."""
    memory: PyTree
    cache: dict[str, Array] = dataclasses.field(default_factory=dict)
    """What a `Cached` velocity remembers."""
    key: PRNGKeyArray
    stepper: Stepper

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.sigmas.shape[0] - 1

    def level(self, i: Int[Array, ""] | int) -> Float[Array, "#b t #h #w"]:
        """σ of each token before step i: 0 where known. Rows past an end are the end's."""
        row = self.sigmas[jnp.clip(i, 0, self.steps)]
        row = row.reshape((1,) * (2 - row.ndim) + row.shape + (1, 1)) if row.ndim else row
        return jnp.where(self.unknown, row, 0)


def _noise(key, shape):
    if key.ndim == 0:
        return jax.random.normal(key, shape, jnp.float32)
    return jax.vmap(lambda k: jax.random.normal(k, shape[1:], jnp.float32))(key)


_OF_STEPS = 2**32 - 1
"""What the steps' own noise is drawn by; the first noise has 0, that of freed tokens the step's number."""


def _fold(key, data):
    return (
        jax.random.fold_in(key, data)
        if key.ndim == 0
        else jax.vmap(lambda k: jax.random.fold_in(k, data))(key)
    )


def _mask(unknown, shape):
    unknown = align(jnp.asarray(unknown), jnp.empty(shape[:4]))
    if unknown.dtype != jnp.bool_:
        raise ValueError(f"`unknown` is {unknown.dtype}; give booleans, true where the model is to fill in")
    for size, length in zip(unknown.shape, shape[:4], strict=True):
        if size not in (1, length):
            raise ValueError(
                f"`unknown` {unknown.shape} doesn't fit the latents' {shape[:4]}; give those sizes or 1"
            )
    return unknown


def start(
    key: PRNGKeyArray,
    shape: tuple[int, int, int, int, int],
    sigmas: Array | np.ndarray,
    *,
    stepper: Stepper = UniPC(),
    known: Array | None = None,
    unknown: Array | None = None,
    source: Array | None = None,
    noise: Array | None = None,
) -> Generation:
    """A generation before its first step.

    Args:
        key: one key, or [b] keys: then a clip's noise doesn't depend on the batch it is in.
        shape: (b, t, h, w, c) of the latents.
        sigmas: noise levels in [0, 1], falling: [steps + 1], [steps + 1, t] or [steps + 1, b, t], for frames
            with schedules of their own. A token whose level stays from one row to the next keeps its value.
        known: latents of `shape` whose tokens are kept, to the bit, where `unknown` is false.
        unknown: bool [b], [b, t] or broadcasting as [b, t, h, w]; all unknown without it.
        source: latents of `shape` that unknown tokens start from, noised to their first level (SDEdit);
            without it they start from the noise alone, and their first level should be 1.
        noise: ε of `shape`, in place of a draw with `key`.

    Raises:
        ValueError: a shape doesn't fit, or one of `known` and `unknown` comes without the other.
    """
    if (known is None) != (unknown is None):
        raise ValueError("`known` and `unknown` go together; give both or neither")
    for name, latents in (("known", known), ("source", source), ("noise", noise)):
        if latents is not None and tuple(latents.shape) != tuple(shape):
            raise ValueError(f"`{name}` is {tuple(latents.shape)}; give latents of shape {tuple(shape)}")
    sigmas = jnp.asarray(sigmas, jnp.float32)
    if sigmas.shape[1:] not in ((), (shape[1],), (shape[0], shape[1])) or len(sigmas) < 2:
        raise ValueError(
            f"`sigmas` is {sigmas.shape}; give [steps + 1], [steps + 1, t] or [steps + 1, b, t] with "
            f"one step or more, for b = {shape[0]} and t = {shape[1]}"
        )

    mask = jnp.ones((1, 1, 1, 1), bool) if unknown is None else _mask(unknown, shape)
    x = _noise(_fold(key, 0), shape) if noise is None else jnp.asarray(noise, jnp.float32)
    gen = Generation(x=x, unknown=mask, sigmas=sigmas, step=jnp.int32(0), memory=(), key=key, stepper=stepper)
    if source is not None:
        x = interpolate(jnp.asarray(source, jnp.float32), x, gen.level(0))
    if known is not None:
        x = jnp.where(mask[..., None], x, jnp.asarray(known, jnp.float32))
    return dataclasses.replace(gen, x=x, memory=stepper.init(x))


def _per_frame(gen, sigma):
    return jnp.broadcast_to(sigma, gen.x.shape[:2] + sigma.shape[2:])


def prepare(gen: Generation, velocity: Cached, cond: PyTree = None) -> Generation:
    """The generation with room for what a cached velocity remembers: once, before its next step."""
    sigma = _per_frame(gen, gen.level(gen.step))
    return dataclasses.replace(gen, cache=velocity.start(gen.x, sigma, at_step(cond, gen.step)))


def forget(gen: Generation) -> Generation:
    """The generation whose next step is evaluated, as it must be where another network takes over."""
    return dataclasses.replace(gen, cache=gen.cache | {"age": jnp.int32(0)}) if gen.cache else gen


def step(gen: Generation, velocity: Velocity | Cached, cond: PyTree = None) -> Generation:
    """One step along the schedule. Any `PerStep` in `cond` is read at this step.

    Raises:
        ValueError: the velocity is cached, and the generation isn't prepared for it.
    """
    if isinstance(velocity, Cached) and not gen.cache:
        raise ValueError("the velocity is cached and the generation remembers nothing; `prepare` it first")
    changed, cond = changed_at(cond, gen.step), at_step(cond, gen.step)
    cache = gen.cache

    def evaluate(x, i):
        nonlocal cache
        sigma = gen.level(i)
        inputs = (x, _per_frame(gen, sigma), cond)
        if isinstance(velocity, Cached):
            v, cache = velocity(*inputs, cache, i, gen.steps, changed)
        else:
            v = velocity(*inputs).astype(jnp.float32)
        # A model isn't trained at known tokens: nothing that it says of them goes on.
        return jnp.where(sigma[..., None] > 0, v, 0)

    def level(i):
        return gen.level(i)[..., None]

    def noise():
        return _noise(_fold(_fold(gen.key, _OF_STEPS), gen.step), gen.x.shape)

    x, memory = gen.stepper.step(gen.x, gen.memory, gen.step, level, evaluate, noise)
    # Known tokens, and frames that wait or are done, keep their bits.
    x = jnp.where(level(gen.step) != level(gen.step + 1), x, gen.x)
    return dataclasses.replace(gen, x=x, memory=memory, cache=cache, step=gen.step + 1)


def run(
    gen: Generation,
    velocity: Velocity | Cached,
    cond: PyTree = None,
    steps: Int[Array, ""] | int | None = None,
) -> Generation:
    """`steps` more steps, or all that are left, as one scan. Steps past the end do nothing.

    The scan has the schedule's length whatever `steps` is, and leaves out the rest at run time: one program.
    """
    last = gen.steps if steps is None else jnp.minimum(gen.step + steps, gen.steps)

    def body(gen, _):
        return jax.lax.cond(gen.step < last, lambda g: step(g, velocity, cond), lambda g: g, gen), None

    return jax.lax.scan(body, gen, None, length=gen.steps)[0]


def finish(gen: Generation) -> Float[Array, "b t h w c"]:
    """The latents of a generation that has run to its end.

    Raises:
        ValueError: there are steps left (not seen under jit).
    """
    if not isinstance(gen.step, Tracer) and int(gen.step) < gen.steps:
        raise ValueError(f"the generation is at step {int(gen.step)} of {gen.steps}; run the rest first")
    return gen.x


def remask(gen: Generation, unknown: Array, known: Array | None = None) -> Generation:
    """Change what is known, at any step.

    Tokens that `unknown` frees are noised to the level of this step; those it fixes take their values from
    `known` (or stay as they are). The stepper and the cache forget the past.
    """
    unknown = _mask(unknown, gen.x.shape)
    edited = dataclasses.replace(gen, unknown=unknown)
    eps = _noise(_fold(gen.key, gen.step + 1), gen.x.shape)
    freed = (unknown & ~gen.unknown)[..., None]
    x = jnp.where(freed, interpolate(gen.x, eps, edited.level(gen.step)), gen.x)
    if known is not None:
        x = jnp.where(unknown[..., None], x, jnp.asarray(known, jnp.float32))
    return forget(dataclasses.replace(edited, x=x, memory=gen.stepper.init(x)))
