"""A generation on disk, as an .npz of its arrays: what comes back continues with the same bits."""

import dataclasses
import json
import os
import zipfile
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion.generation import Generation
from sora_jax.diffusion.samplers import Ancestral, DPMSolverPP, Euler, Heun, UniPC

FORMAT = 1
LARGEST = 1 << 33
"""Bytes of all arrays of a file, as they lie in memory."""
STEPPERS = {kind.__name__: kind for kind in (Ancestral, DPMSolverPP, Euler, Heun, UniPC)}


def save(
    path: str | os.PathLike,
    gen: Generation,
    about: dict[str, Any] | None = None,
    arrays: dict[str, Any] | None = None,
) -> None:
    """Write `gen` to `path`, whole or not at all, with what else makes it go on: `about`, of JSON, and arrays.

    The model and its condition aren't in it.
    """
    path = Path(path)
    header = {
        "format": FORMAT,
        "stepper": type(gen.stepper).__name__,
        "settings": dataclasses.asdict(gen.stepper),  # pyright: ignore[reportArgumentType]
        "key": str(jax.random.key_impl(gen.key)),
        "about": about or {},
    }
    arrays = {f"with.{name}": array for name, array in (arrays or {}).items()}
    arrays |= {name: getattr(gen, name) for name in ("x", "unknown", "sigmas", "step")}
    arrays |= {f"cache.{name}": array for name, array in gen.cache.items()}
    arrays |= {f"memory{jax.tree_util.keystr(at)}": leaf for at, leaf in _leaves(gen.memory)}
    arrays |= {
        "key": jax.random.key_data(gen.key),
        "header": np.frombuffer(json.dumps(header).encode(), np.uint8),
    }
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with part.open("wb") as file:
            values: dict[str, Any] = {name: np.asarray(a) for name, a in jax.device_get(arrays).items()}
            np.savez(file, **values)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def restore(path: str | os.PathLike) -> tuple[Generation, dict[str, Any], dict[str, np.ndarray]]:
    """Read what `save` wrote: the generation, `about` and the arrays.

    Raises:
        ValueError: the file isn't a whole saved generation.
    """
    try:
        with zipfile.ZipFile(path) as parts:
            if (size := sum(part.file_size for part in parts.infolist())) > LARGEST:
                raise ValueError(f"it would take {size:,} bytes, over the limit of {LARGEST:,}")
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        header = json.loads(arrays["header"].tobytes())
        if header["format"] != FORMAT:
            raise ValueError(f"it has format {header['format']}, this version reads {FORMAT}")
        stepper = STEPPERS[header["stepper"]](**header["settings"])
        memory = jax.eval_shape(stepper.init, jax.ShapeDtypeStruct(arrays["x"].shape, jnp.float32))
        leaves = []
        for at, wanted in _leaves(memory):
            leaf = arrays[f"memory{jax.tree_util.keystr(at)}"]
            if (leaf.shape, leaf.dtype) != (wanted.shape, wanted.dtype):
                raise ValueError(f"its memory{jax.tree_util.keystr(at)} is {leaf.dtype}{leaf.shape}")
            leaves.append(jnp.asarray(leaf))
        gen = Generation(
            **{name: jnp.asarray(arrays[name]) for name in ("x", "unknown", "sigmas", "step")},
            memory=jax.tree.unflatten(jax.tree.structure(memory), leaves),
            cache={
                name.removeprefix("cache."): jnp.asarray(array)
                for name, array in arrays.items()
                if name.startswith("cache.")
            },
            key=jax.random.wrap_key_data(jnp.asarray(arrays["key"]), impl=header["key"]),
            stepper=stepper,
        )
        beside = {n.removeprefix("with."): array for n, array in arrays.items() if n.startswith("with.")}
        return gen, header["about"], beside
    except (ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"{path} isn't a whole saved generation ({error}); save it again") from error


def _leaves(memory):
    return jax.tree_util.tree_flatten_with_path(memory)[0]
