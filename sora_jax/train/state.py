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

from sora_jax.parallel import place, shardings
from sora_jax.typing import Array


@struct.dataclass
class TrainState:
    """`step` counts optimizer steps; `ema` has the shape of `params`, or is None in a run without a moving average."""

    step: Array
    params: chex.ArrayTree
    ema: chex.ArrayTree | None
    opt_state: Any

    @classmethod
    def create(
        cls, params: chex.ArrayTree, tx: optax.GradientTransformation, *, averaged: bool = True
    ) -> "TrainState":
        return cls(
            step=jnp.zeros((), jnp.int32),
            params=params,
            ema=jax.tree.map(jnp.copy, params) if averaged else None,
            opt_state=tx.init(params),
        )

    @property
    def sampled(self) -> chex.ArrayTree:
        """The parameters to sample with."""
        return self.params if self.ema is None else self.ema


def state_shardings(
    init: Callable[[], chex.ArrayTree],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    *,
    averaged: bool = True,
) -> TrainState:
    """Where each array of the state of `init()` and `tx` lies on `mesh`; nothing is made."""
    return shardings(jax.eval_shape(lambda: TrainState.create(init(), tx, averaged=averaged)), mesh)


def initial_state(
    init: Callable[[], chex.ArrayTree],
    tx: optax.GradientTransformation,
    mesh: Mesh,
    params: chex.ArrayTree | None = None,
    *,
    averaged: bool = True,
) -> tuple[TrainState, TrainState]:
    """The first state, every array made on its own shards, and the tree of those shardings.

    `init()` gives Flax parameters that still carry their logical axes. With `params` it only tells those axes and is
    not computed.
    """
    out = state_shardings(init, tx, mesh, averaged=averaged)

    def make(params):
        return TrainState.create(nn.unbox(init() if params is None else params), tx, averaged=averaged)

    placed = None if params is None else place(params, out.params)
    return jax.jit(make, out_shardings=out)(placed), out
