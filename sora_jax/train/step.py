"""One optimizer step: g = ∇ mean loss;  θ ← θ + tx(g);  EMA: θ̄ ← d·θ̄ + (1-d)·θ with d = min(d_max, (1+n)/(10+n)).

The warm-up of d (as in arXiv 1412.6980's bias correction, in the form TensorFlow's moving averages use) lets short runs
sample from the average.
"""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax

from sora_jax.train.state import TrainState
from sora_jax.typing import Array

LossFn = Callable[[Any, Any, Array], tuple[Array, dict[str, Array]]]
"""(params, batch, key) -> loss, metrics."""


def ema_decay_at(step: Array, ema_decay: float) -> Array:
    n = step.astype(jnp.float32)
    return jnp.minimum(ema_decay, (1.0 + n) / (10.0 + n))


def mean_gradients(params, batch, key, *, loss_fn: LossFn, accumulate: int):
    """Loss, metrics and gradients of the batch, in `accumulate` equal parts one after another."""
    value_and_grad = jax.value_and_grad(loss_fn, has_aux=True)
    if accumulate == 1:
        (loss, metrics), grads = value_and_grad(params, batch, key)
        return loss, metrics, grads

    # Every device has its share of each part: example i is in part i mod `accumulate`.
    parts = jax.tree.map(
        lambda a: a.reshape(a.shape[0] // accumulate, accumulate, *a.shape[1:]).swapaxes(0, 1), batch
    )
    keys = jax.random.split(key, accumulate)

    def add(total, part):
        (loss, metrics), grads = value_and_grad(params, part[0], part[1])
        return jax.tree.map(jnp.add, total, (loss, metrics, grads)), None

    first = jax.tree.map(lambda a: a[0], (parts, keys))
    (loss, metrics), grads = jax.eval_shape(value_and_grad, params, *first)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), (loss, metrics, grads))
    total, _ = jax.lax.scan(add, zeros, (parts, keys))
    return jax.tree.map(lambda a: a / accumulate, total)


def train_step(
    state: TrainState,
    batch: chex.ArrayTree,
    key: Array,
    *,
    loss_fn: LossFn,
    tx: optax.GradientTransformation,
    ema_decay: float,
    accumulate: int = 1,
) -> tuple[TrainState, dict[str, Array]]:
    """A pure step. The step's randomness is `fold_in(key, state.step)`, so a resumed run draws the same."""
    step_key = jax.random.fold_in(key, state.step)
    loss, metrics, grads = mean_gradients(
        state.params, batch, step_key, loss_fn=loss_fn, accumulate=accumulate
    )
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    params: Any = optax.apply_updates(state.params, updates)
    ema = state.ema
    if ema is not None:
        d = ema_decay_at(state.step, ema_decay)
        ema = jax.tree.map(lambda a, p: a * d + p * (1.0 - d), ema, params)
    metrics = {"loss": loss, "gradient_norm": optax.global_norm(grads), **metrics}
    return TrainState(step=state.step + 1, params=params, ema=ema, opt_state=opt_state), metrics
