"""Compiles small programs for TPUs and stores their text, but for what no test reads. Needs the [tpu] extra, no TPU.

JAX_PLATFORMS=cpu python tests/evals/plan/make_programs.py
"""

import re
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.evals.plan.topology import devices_of, parse_topology

FOLDER = Path(__file__).parent / "programs"
TURNS, ROWS, WIDTH = 5, 64, 256
"""Of the loop: W [turns, width, width] and x [rows, width]."""
SIZE = 1024
"""float32 entries that each device puts into each collective."""


def mesh_of(topology: str) -> Mesh:
    return Mesh(np.asarray(devices_of(parse_topology(topology))), ("d",))


def loop(mesh: Mesh):
    """Gradients through a loop over matrices that are cut over the devices, of a batch that is cut too."""

    def loss(w, x):
        def turn(x, w):
            return jnp.tanh(x @ w), None

        return jnp.sum(jnp.square(lax.scan(turn, x, w)[0]))

    cut, rows = NamedSharding(mesh, PartitionSpec(None, "d")), NamedSharding(mesh, PartitionSpec("d"))
    w = jax.ShapeDtypeStruct((TURNS, WIDTH, WIDTH), jnp.float32, sharding=cut)
    x = jax.ShapeDtypeStruct((ROWS, WIDTH), jnp.float32, sharding=rows)
    return jax.jit(jax.grad(loss), out_shardings=cut), (w, x)


def collectives(mesh: Mesh):
    """Each kind once, of SIZE entries on each device, none of which can be left out or joined."""
    n = mesh.size

    def local(x):
        gathered = jnp.sin(lax.all_gather(x, "d", tiled=True))
        scattered = jnp.cos(lax.psum_scatter(gathered[:SIZE] * x, "d", tiled=True))
        summed = jnp.tanh(lax.psum(x * gathered[-1], "d"))
        exchanged = jnp.sin(lax.all_to_all(summed.reshape(n, -1), "d", 0, 0, tiled=True))
        sent = lax.ppermute(exchanged.reshape(-1) + x, "d", [(i, (i + 1) % n) for i in range(n)])
        return sent + jnp.sum(scattered)

    x = jax.ShapeDtypeStruct((n * SIZE,), jnp.float32, sharding=NamedSharding(mesh, PartitionSpec("d")))
    spec = PartitionSpec("d")
    return jax.jit(jax.shard_map(local, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)), (x,)


def total(mesh: Mesh):
    """One sum over everything, of SIZE entries on each device."""
    spec = PartitionSpec("d")
    x = jax.ShapeDtypeStruct((mesh.size * SIZE,), jnp.float32, sharding=NamedSharding(mesh, spec))
    summed = jax.shard_map(
        lambda x: lax.psum(x, "d"), mesh=mesh, in_specs=spec, out_specs=PartitionSpec(), check_vma=False
    )
    return jax.jit(summed), (x,)


PROGRAMS = {
    "loop": (loop, "v5e:2x2"),
    "collectives": (collectives, "v5p:2x2x1"),
    "slices": (total, "2xv5e:2x2"),
}


def stripped(text: str) -> str:
    """Without source places, the compiler's notes to itself and its tables of files."""
    quoted = r"(?:[^{}\"]|\"[^\"]*\")*"
    lines = []
    for line in text.splitlines():
        if re.match(r"(\d+ |FileNames|FunctionNames|FileLocations|StackFrames|$)", line):
            continue
        line = re.sub(rf", metadata=\{{{quoted}\}}", "", line)
        line = re.sub(r", backend_config=(\{.*\}|\"[^\"]*\")$", "", line)
        if "megascale" not in line:
            line = re.sub(rf", frontend_attributes=\{{{quoted}\}}", "", line)
        lines.append(line)
    return "\n".join(lines) + "\n"


def main() -> None:
    for name, (make, topology) in PROGRAMS.items():
        program, arguments = make(mesh_of(topology))
        text = program.lower(*arguments).compile().as_text()
        path = FOLDER / f"{name}.txt"
        temporary = path.with_suffix(".part")
        temporary.write_text(stripped(text))
        temporary.replace(path)
        print(path, len(text), path.stat().st_size, file=sys.stderr)


if __name__ == "__main__":
    main()
