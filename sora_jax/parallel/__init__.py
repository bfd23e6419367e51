"""The mesh, and what lies where on it."""

from sora_jax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, sharded_init, shardings

__all__ = ["MeshConfig", "batch_sharding", "make_mesh", "sharded_init", "shardings"]
