"""A run's step before there is a machine to run it on: what it takes, as shapes that know where they lie on a mesh."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.parallel import batch_sharding
from sora_jax.train import dit, finetune, vae
from sora_jax.train.dit import DiTRun
from sora_jax.train.finetune import FineTuneRun
from sora_jax.train.loop import Step, step_of, step_on
from sora_jax.train.optimizer import make_optimizer
from sora_jax.train.skip import Recent
from sora_jax.train.state import TrainState, state_shardings
from sora_jax.train.vae import VAERun

__all__ = ["AbstractStep", "Run", "abstract_step", "placed"]

Run = VAERun | DiTRun | FineTuneRun


class AbstractStep(NamedTuple):
    """The step that the loop would run on a mesh, with its arguments as `ShapeDtypeStruct`s on that mesh."""

    jitted: Any
    """As the loop calls it; `jitted.lower(*arguments).compile()` is the loop's program."""
    function: Step
    """The same without a mesh."""
    arguments: tuple[TrainState, Recent, Any, Any, Any]
    """State, the last steps, batch, key and what is frozen."""


def abstract_step(run: Run, mesh: Mesh) -> AbstractStep:
    """The step of `run` on `mesh`; nothing is computed or read. `run.mesh` only says how tokens meet.

    Raises ValueError for a batch that doesn't divide over the mesh's data and fsdp axes, in each accumulated part.
    """
    copies = mesh.shape["data"] * mesh.shape["fsdp"]
    if (part := run.batch_size // run.accumulate) % copies:
        raise ValueError(
            f"a batch of {run.batch_size} in {run.accumulate} parts is {part} at a time and doesn't divide over data x "
            f"fsdp = {copies} devices: choose a batch of a multiple of {copies * run.accumulate}."
        )
    init, loss_fn, batch, frozen = _parts(run, mesh)
    tx = make_optimizer(run.optimizer, run.steps)
    places = state_shardings(init, tx, mesh, averaged=run.averaged)
    state = jax.eval_shape(lambda: nn.unbox(TrainState.create(init(), tx, averaged=run.averaged)))
    step = step_of(run, loss_fn, tx)
    everywhere = NamedSharding(mesh, PartitionSpec())
    arguments = (
        placed(state, places),
        placed(jax.eval_shape(lambda: Recent.none(run.skip.window)), everywhere),
        placed(batch, batch_sharding(mesh)),
        placed(jax.eval_shape(lambda: jax.random.key(run.seed)), everywhere),
        frozen,
    )
    return AbstractStep(step_on(mesh, step, places, run.mesh.attention), step, arguments)


def _parts(run: Run, mesh: Mesh) -> tuple[Callable[[], Any], Any, dict[str, Any], Any]:
    """What makes the trained parameters, the loss, one batch, and what is frozen, on the mesh."""
    rows = run.batch_size
    if isinstance(run, VAERun):
        video = jax.ShapeDtypeStruct((rows, *vae.window(run)), jnp.uint8)
        return lambda: vae.init_params(run), vae.loss_of(run), {"video": video}, None
    model, data = run.model, run.data
    cut = run.caption_tokens if isinstance(run, DiTRun) else None
    length = cut or model.text.max_length
    latents = (rows, *model.vae.latent_shape(data.frames, data.height, data.width))
    batch = {
        "latents": jax.ShapeDtypeStruct(latents, jnp.float32),
        "mask": jax.ShapeDtypeStruct((rows, length), jnp.bool_),
    }
    if isinstance(run, DiTRun):
        empty = np.zeros((length,), np.int32), np.zeros((length,), bool)
        ids = jax.ShapeDtypeStruct((rows, length), jnp.int32)
        return lambda: dit.init_params(run, length), dit.loss_of(run, empty), {**batch, "ids": ids}, None
    width = model.text.width
    frozen: dict[str, Any] = {
        "empty": (jax.ShapeDtypeStruct((length, width), jnp.float32), jax.ShapeDtypeStruct((length,), bool))
    }
    if run.lora:
        base = nn.unbox(finetune.boxed_params(run))
        frozen["dit"] = jax.eval_shape(lambda base: finetune.frozen_dtype(base, jnp.dtype(run.dtype)), base)
    text = jax.ShapeDtypeStruct((rows, length, width), jnp.float32)
    places = finetune.frozen_shardings(run, mesh)
    return finetune.trained_init(run), finetune.loss_of(run), {**batch, "text": text}, placed(frozen, places)


def placed(shapes: Any, places: Any) -> Any:
    """The tree `shapes` on `places`: one sharding, or a tree of them."""
    if isinstance(places, NamedSharding):
        one = places
        places = jax.tree.map(lambda _: one, shapes)
    return jax.tree.map(
        lambda leaf, place: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=place), shapes, places
    )
