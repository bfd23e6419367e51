"""Every test runs on eight fake CPU devices, where a silent broadcast or a silent cast is an error."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# XLA's optimisations take longer to run than they save in a test.
jax.config.update("jax_disable_most_optimizations", True)
