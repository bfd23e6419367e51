"""What a clip takes beside the denoiser's steps: its words through the text encoder, its latents through the decoder.

They are the pipeline's own programs. Where the pipeline wouldn't decode a clip whole, the program is one chunk of one
tile, which runs for all of them.
"""

import contextlib
import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.evals.plan.program import Planned, kept_params, model_of, resident, whole_bytes
from sora_jax.models.config import ModelConfig
from sora_jax.models.vae import apply_chunk
from sora_jax.models.vae_tiles import plan_tiles
from sora_jax.ops.attention import Spread, attention, spread_by
from sora_jax.parallel.memory import SHARE
from sora_jax.studio import programs
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Sample
from sora_jax.train.abstract import placed

__all__ = ["stages"]


def stages(sample: Sample, mesh: Mesh, memory: float) -> dict[str, Planned]:
    """The programs before and after the steps by name, with `runs` among their settings: how often a batch needs them.

    `memory` is a device's in bytes, by which the pipeline chooses tiles.
    """
    config, dtype = model_of(sample.model), jnp.dtype(sample.dtype)
    rows = min(sample.batch, len(sample.prompts) * sample.variations)
    request = resolve(config, ["a clip"] * rows, **sample.sizes())
    params = kept_params(config, dtype, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    spread_over = (mesh, sample.attention)
    texts = (rows + 1 if request.guided else rows, config.text.max_length)
    words = placed([jax.ShapeDtypeStruct(texts, kind) for kind in (jnp.int32, jnp.bool_)], everywhere)
    encode = functools.partial(programs.encode_text, config=config.text, dtype=dtype)
    text = Planned(
        trace=lambda: programs.encode_text.trace(
            params["text"], *words, config=config.text, dtype=dtype, spread_over=spread_over
        ),
        useful=lambda: jax.make_jaxpr(encode)(params["text"], *words),
        parts={"parameters": params["text"], "words": words},
        beside=resident(params, memory, "text"),
        examples=rows,
        dtype=sample.dtype,
        settings={"kind": "text encoder", "runs": 1, "texts": texts[0], "tokens": texts[1]},
    )
    return {"text": text, "decode": _decoder(config, params, request.size, rows, memory, spread_over)}


def _decoder(
    config: ModelConfig, params: dict[str, Any], size: Any, rows: int, memory: float, spread_over: tuple
) -> Planned:
    vae, everywhere = config.vae, NamedSharding(spread_over[0], PartitionSpec())
    t, h, w, c = vae.latent_shape(size.frames, size.height, size.width)
    beside = resident(params, memory, "vae")
    held = whole_bytes(beside) + whole_bytes(params["vae"])
    tiles = None if memory == math.inf else plan_tiles(vae, rows, (t, h, w), int(SHARE * memory) - held)
    if tiles is None:
        arguments = (params["vae"], placed(jax.ShapeDtypeStruct((rows, t, h, w, c), jnp.float32), everywhere))
        program: Any = programs.decode
        options: dict[str, Any] = {"config": vae, "dtype": jnp.float32}
        options["spread_over"] = spread_over
        settings = {"runs": 1}
    else:
        options = {"config": vae, "method": "decode", "dtype": jnp.float32}
        program = apply_chunk
        tile = min(tiles.height, h), min(tiles.width, w)
        z = placed(jax.ShapeDtypeStruct((1, tiles.chunk, *tile, c), jnp.float32), everywhere)
        first = jax.eval_shape(functools.partial(program, **options), params["vae"], None, z)
        arguments = (params["vae"], placed(first[1]["cache"], everywhere), z)
        count, chunks = tiles.count(h, w), 1 + math.ceil((t - 1) / tiles.chunk)
        settings = {"runs": rows * count * chunks, "tiles": count, "chunks": chunks}
        settings |= {"rows": tile[0] * vae.spatial_factor, "columns": tile[1] * vae.spatial_factor}

    def trace():
        # A program that isn't told of the mesh does without attention's kernel where there are several devices; here
        # none of them is there, and it has to be told so.
        several = spread_over[0].size > 1 and tiles is not None
        with spread_by(Spread(attention, None)) if several else contextlib.nullcontext():
            return program.trace(*arguments, **options)

    plain = {name: value for name, value in options.items() if name != "spread_over"}
    return Planned(
        trace=trace,
        useful=lambda: jax.make_jaxpr(functools.partial(program, **plain))(*arguments),
        parts={"parameters": arguments[0], "latents": arguments[1:]},
        beside=beside,
        examples=rows,
        dtype="float32",
        settings={"kind": "decoder", **settings},
    )
