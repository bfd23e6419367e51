"""What a training run is at one step: arrays only, so that a checkpoint of it is the whole of it."""

from typing import Any

import chex
import jax
import jax.numpy as jnp
import optax
from flax import struct

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
            step=jnp.zeros((), jnp.int32), params=params, ema=jax.tree.map(jnp.copy, params), opt_state=tx.init(params)
        )
