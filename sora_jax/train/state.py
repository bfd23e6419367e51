"""What a training run is at one step: arrays only, so that a checkpoint of it is the whole of it."""

from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax import struct
from jax.sharding import Mesh

from sora_jax.parallel import shardings
from sora_jax.typing import Array


@struct.dataclass
class TrainState:
    """`step` counts optimizer steps; `ema` has the shape of `params` and is what gets sampled from."""

    step: Array
    params: chex.ArrayTree
    ema: chex.ArrayTree
    opt_state: Any

    @classmethod
    def create(cls, params: chex.ArrayTree, tx: optax.GradientTransformation) -> "TrainState":
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema=jax.tree.map(jnp.copy, params),
            opt_state=tx.init(params),
        )


def state_shardings(
    init: Callable[[], chex.ArrayTree], tx: optax.GradientTransformation, mesh: Mesh
) -> TrainState:
    """Where each array of the state of `init()` and `tx` lies on `mesh`; nothing is made."""
    return shardings(jax.eval_shape(lambda: TrainState.create(init(), tx)), mesh)


def initial_state(
    init: Callable[[], chex.ArrayTree], tx: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """The first state, every array made on its own shards, and the tree of those shardings.

    `init()` gives Flax parameters that still carry their logical axes.
    """
    out = state_shardings(init, tx, mesh)
    return jax.jit(lambda: nn.unbox(TrainState.create(init(), tx)), out_shardings=out)(), out


def state_from(
    params: chex.ArrayTree, init: Callable[[], chex.ArrayTree], tx: optax.GradientTransformation, mesh: Mesh
) -> tuple[TrainState, TrainState]:
    """As `initial_state`, of parameters that exist; `init()` only tells their logical axes and is not computed."""
    out = state_shardings(init, tx, mesh)
    placed = jax.device_put(params, out.params)
    return jax.jit(lambda p: TrainState.create(p, tx), out_shardings=out)(placed), out
