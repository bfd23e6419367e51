"""The mesh, what lies where on it, how tokens on different devices attend to one another, and runs on many hosts."""

from sora_jax.parallel.context import context_attention
from sora_jax.parallel.hosts import start
from sora_jax.parallel.mesh import (
    MeshConfig,
    batch_sharding,
    data_host,
    make_mesh,
    own_mesh,
    place,
    place_batch,
    shardings,
)
from sora_jax.parallel.spread import spread

__all__ = [
    "MeshConfig",
    "batch_sharding",
    "context_attention",
    "data_host",
    "make_mesh",
    "own_mesh",
    "place",
    "place_batch",
    "shardings",
    "spread",
    "start",
]
