"""Every test runs on eight fake CPU devices, where a silent broadcast or a silent cast is an error."""

import os
from importlib.metadata import version

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# XLA's older emitters compile in half the time; other releases may lack the flag, for which XLA ends the process.
if version("jaxlib").startswith("0.10."):
    os.environ.setdefault("XLA_FLAGS", "--xla_cpu_use_fusion_emitters=false")

import jax

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_numpy_dtype_promotion", "strict")
# XLA's optimisations take longer to run than they save in a test.
jax.config.update("jax_disable_most_optimizations", True)
