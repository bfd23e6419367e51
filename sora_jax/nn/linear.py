"""y = x W + b, with a name for each of the kernel's axes."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from sora_jax.ops.layout import gather
from sora_jax.ops.matmul import matmul
from sora_jax.typing import Array

LECUN = nn.initializers.lecun_normal()


def matrix(kernel: Any, dtype: Any) -> Array:
    """The kernel in `dtype`. One of qwix's quantized arrays is multiplied out here, where it is used.

    Inside the loop over the blocks that is one block's matrices at a time: the others stay small.
    """
    if hasattr(kernel, "qvalue"):
        import qwix

        kernel = qwix.dequantize(kernel)
    return kernel.astype(dtype)


class Linear(nn.Module):
    """A dense layer on the last axis. Parameters are float32; the product is in `dtype`.

    `axes` are the logical names of the kernel's (input, output) axes; the mesh rules decide what is sharded.
    """

    features: int
    axes: tuple[str, str] = ("embed", "mlp")
    use_bias: bool = True
    dtype: jnp.dtype = jnp.float32
    kernel_init: Callable = LECUN
    bias_init: Callable = nn.initializers.zeros

    @nn.compact
    def __call__(self, x):
        kernel_init = nn.with_logical_partitioning(self.kernel_init, self.axes)
        kernel: Array = self.param("kernel", kernel_init, (x.shape[-1], self.features), jnp.float32)  # pyright: ignore
        y = matmul(x.astype(self.dtype), gather(matrix(kernel, self.dtype), self.axes))
        if self.use_bias:
            bias_init = nn.with_logical_partitioning(self.bias_init, self.axes[1:])
            bias: Array = self.param("bias", bias_init, (self.features,), jnp.float32)  # pyright: ignore
            y = y + bias.astype(self.dtype).reshape((1,) * (y.ndim - 1) + (-1,))
        return y
