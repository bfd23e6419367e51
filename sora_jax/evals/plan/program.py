"""What a plan compiles: the training loop's step, or the pipeline's sampling step, at abstract shapes on a mesh."""

import dataclasses
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import traverse_util
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.diffusion import SAMPLERS, Guided, PerStep
from sora_jax.evals.runs import Experiment, load_experiment
from sora_jax.models.config import MODELS, ModelConfig
from sora_jax.parallel import MeshConfig
from sora_jax.studio import precision, programs
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Sample, read_sample
from sora_jax.train.abstract import abstract_step, placed
from sora_jax.train.vae import VAERun
from sora_jax.weights.checkpoint import parameter_shardings
from sora_jax.weights.shapes import abstract_params

__all__ = [
    "Planned",
    "Work",
    "kept_params",
    "load_work",
    "mesh_of_work",
    "model_of",
    "planned",
    "resident",
    "whole_bytes",
    "with_settings",
]

Work = Experiment | Sample


@dataclasses.dataclass(frozen=True, kw_only=True)
class Planned:
    """A program that can be compiled for a mesh, and what is said of it."""

    trace: Callable[[], Any]
    """Gives the traced program (`jax.stages.Traced`)."""
    useful: Callable[[], Any]
    """Gives the jaxpr of the mathematics alone: no mesh, nothing computed twice."""
    parts: dict[str, Any]
    """Arguments by what they are, as shapes on the mesh."""
    beside: Any = ()
    """What lies there too and isn't an argument: the other networks."""
    turns: int = 1
    """Steps that the program has room for; figures are of one of them."""
    examples: int
    """Clips that a step trains on, or makes."""
    dtype: str
    settings: dict[str, Any]


def load_work(path: Path) -> Work:
    """The `EXPERIMENT` or the `SAMPLE` of a Python file. Raises ValueError, or FileNotFoundError, if it has neither."""
    if path.is_file() and "SAMPLE" in path.read_text(encoding="utf-8"):
        sample = read_sample(path)[0]
        if not isinstance(sample, Sample):
            raise ValueError(f"{path} makes its clips by a function: a plan takes a Sample of prompts.")
        return sample
    return load_experiment(path)


def mesh_of_work(work: Work) -> MeshConfig:
    """The mesh that the experiment names."""
    if isinstance(work, Sample):
        return MeshConfig(data=1, context=work.context, tensor=work.shards, attention=work.attention)
    return work.mesh


def with_settings(
    work: Work,
    *,
    mesh: MeshConfig | None = None,
    remat: str | None = None,
    batch: int | None = None,
    accumulate: int | None = None,
) -> Work:
    """The experiment with other settings. Raises ValueError for one that it doesn't have."""
    if isinstance(work, Sample):
        if remat or accumulate:
            raise ValueError("a sampling experiment has no remat and no accumulate: leave them out.")
        changes: dict[str, Any] = {} if batch is None else {"batch": batch}
        if mesh is not None:
            if (mesh.data, mesh.fsdp) != (1, 1):
                raise ValueError("a clip is sampled on context x tensor devices: leave data and fsdp at 1.")
            changes |= {"context": mesh.context, "shards": mesh.tensor, "attention": mesh.attention}
        return dataclasses.replace(work, **changes)
    given = {"mesh": mesh, "batch_size": batch, "accumulate": accumulate}
    changes = {name: value for name, value in given.items() if value is not None}
    if remat is not None:
        if isinstance(work, VAERun):
            raise ValueError("a VAE's run has no remat: leave it out.")
        model = dataclasses.replace(work.model, dit=dataclasses.replace(work.model.dit, remat=remat))
        changes["model"] = model
    return dataclasses.replace(work, **changes)


def planned(work: Work, mesh: Mesh, memory: float = math.inf) -> Planned:
    """The program of an experiment on a mesh of devices of `memory` bytes. Nothing is computed, read or fetched."""
    return _sampling(work, mesh, memory) if isinstance(work, Sample) else _training(work, mesh)


def _training(run: Experiment, mesh: Mesh) -> Planned:
    step = abstract_step(run, mesh)
    kept: Any = run if isinstance(run, VAERun) else with_settings(run, remat="none")
    plain = step if kept is run else abstract_step(kept, mesh)
    state, _, batch, _, frozen = step.arguments
    remat = None if isinstance(run, VAERun) else run.model.dit.remat
    return Planned(
        trace=lambda: step.jitted.trace(*step.arguments),
        useful=lambda: jax.make_jaxpr(plain.function)(*plain.arguments),
        parts={
            "parameters": (state.params, frozen),
            "ema": state.ema,
            "optimizer": state.opt_state,
            "batch": batch,
        },
        examples=run.batch_size,
        dtype=getattr(run, "dtype", "float32"),
        settings={
            "kind": "train",
            "batch_size": run.batch_size,
            "accumulate": run.accumulate,
            "remat": remat,
            "attention": run.mesh.attention,
        },
    )


def model_of(source: str) -> ModelConfig:
    """The config of a model by its name here or its published repository's, as in Wan-AI/Wan2.2-TI2V-5B-Diffusers.

    Raises ValueError for another source: its weights would have to be there to tell.
    """
    name = source.split("/")[-1].lower().removesuffix("-diffusers").replace("-", "_").replace(".", "_")
    if name not in MODELS:
        raise ValueError(
            f"no model {source!r} is known without its weights: a plan takes one of {', '.join(MODELS)}, or the "
            "published repository of one."
        )
    return MODELS[name]


def kept_params(config: ModelConfig, dtype: Any, mesh: Mesh) -> dict[str, Any]:
    """The networks' parameters as the pipeline keeps them on the mesh, as shapes."""
    shapes = jax.eval_shape(lambda tree: precision.keep_as(tree, dtype), abstract_params(config))
    places = {
        name: traverse_util.unflatten_dict(parameter_shardings(network, mesh), sep="/")
        for name, network in config.networks.items()
    }
    return {name: placed(shapes[name], places[name]) for name in shapes}


def whole_bytes(tree: Any) -> int:
    """Of all parts on all devices, once each."""
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))


def resident(params: dict[str, Any], memory: float, network: str) -> dict[str, Any]:
    """The networks that lie on the devices while `network` runs: all others, but the text encoder only where the
    pipeline doesn't leave it on the host, as it does if all would fill more than half of a device."""
    away = {network, "text"} if 2 * whole_bytes(params) > memory else {network}
    return {name: tree for name, tree in params.items() if name not in away}


def _sampling(sample: Sample, mesh: Mesh, memory: float) -> Planned:
    config, dtype = model_of(sample.model), jnp.dtype(sample.dtype)
    if config.needs_image or sample.image or sample.cache:
        raise ValueError(
            "plans are of sampling from words alone, every step evaluated: leave image and cache out."
        )
    rows = min(sample.batch, len(sample.prompts) * sample.variations)
    request = resolve(config, ["a clip"] * rows, **sample.sizes())
    sampler = SAMPLERS[request.sampler]
    everywhere = NamedSharding(mesh, PartitionSpec())
    size, length = request.size, config.text.max_length
    texts = rows + 1 if request.guided else rows
    shape = config.vae.latent_shape(size.frames, size.height, size.width)
    sigmas = np.asarray(sampler.schedule(request.steps, config.flow_shift), np.float32)
    generation = jax.eval_shape(
        functools.partial(programs.begin, shape=shape, sampler=sampler),
        jax.ShapeDtypeStruct((rows,), jnp.uint32),
        np.broadcast_to(sigmas[:, None], (len(sigmas), shape[0])),
    )
    mask = jax.ShapeDtypeStruct((texts, length), jnp.bool_)
    features = jax.eval_shape(
        functools.partial(programs.encode_text, config=config.text, dtype=dtype),
        abstract_params(config)["text"],
        jax.ShapeDtypeStruct((texts, length), jnp.int32),
        mask,
    )
    cond: Any = jax.eval_shape(
        lambda text, mask: programs.Told(text[:rows], mask[:rows] if config.mask_text else None),
        features,
        mask,
    )
    if request.guided:
        scale = PerStep(jax.ShapeDtypeStruct((request.steps,), jnp.float32))  # pyright: ignore
        level = jax.ShapeDtypeStruct((), jnp.float32)
        cond = Guided(positive=cond, negative=cond, scale=scale, history=level)  # pyright: ignore
    kept = kept_params(config, dtype, mesh)
    params = kept["dit"]
    generation, cond = placed(generation, everywhere), placed(cond, everywhere)
    one = jax.ShapeDtypeStruct((), jnp.int32, sharding=everywhere)
    arguments = (params, generation, cond, one)
    options: dict[str, Any] = {
        "config": config.dit,
        "dtype": dtype,
        "whole": config.whole_timesteps and sampler.whole_timesteps,
    }
    return Planned(
        trace=lambda: programs.advance.trace(*arguments, **options, spread_over=(mesh, sample.attention)),
        useful=lambda: jax.make_jaxpr(functools.partial(programs.advance, **options))(*arguments),
        parts={"parameters": params, "latents": generation, "text": cond},
        beside=resident(kept, memory, "dit"),
        turns=request.steps,
        examples=rows,
        dtype=sample.dtype,
        settings={
            "kind": "sample",
            "batch_size": rows,
            "attention": sample.attention,
            "steps": request.steps,
            "frames": size.frames,
            "height": size.height,
            "width": size.width,
        },
    )
