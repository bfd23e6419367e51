"""The mesh, and what lies where on it."""

from sora_jax.parallel.mesh import MeshConfig, batch_sharding, make_mesh, shardings

__all__ = ["MeshConfig", "batch_sharding", "make_mesh", "shardings"]
