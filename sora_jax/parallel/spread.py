"""Programs traced for a mesh: what networks ask for by name is laid out on its devices."""

import contextlib
import functools
import math
from collections.abc import Iterator

import jax
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.ops.attention import Spread, spread_by
from sora_jax.ops.layout import Layout, laid_out_by
from sora_jax.parallel.context import Method, context_attention, cross_attention
from sora_jax.parallel.mesh import kernel_shardings
from sora_jax.typing import Array

CLIPS: tuple[tuple[str, ...], ...] = (("data", "fsdp"), ("context",))
"""What cuts clips and frames in the autoencoder. Not rows: XLA (jax 0.10.2) gets convolutions of cut rows wrong."""


@contextlib.contextmanager
def spread(mesh: Mesh, method: Method = "ulysses_ring", whole_batch: bool = False) -> Iterator[None]:
    """Within it, programs are traced for `mesh`: self attention with its tokens along `context`, and the autoencoder
    with a clip's frames along `context`.

    With `whole_batch` a batch that doesn't divide over data and fsdp, as in sampling, lies whole on each device there.
    """

    def own(q, k, v, mask, segments, scale):
        return context_attention(
            q, k, v, mask, segments, scale, mesh=mesh, method=method, whole_batch=whole_batch
        )

    def cross(q, k, v, mask, segments, scale):
        return cross_attention(q, k, v, mask, segments, scale, mesh=mesh)

    # XLA cuts its own attention over batch and heads by itself; TPU's kernel has to be told.
    tpu = mesh.devices.flat[0].platform == "tpu"
    alone = mesh.size == 1 or (mesh.shape["context"] == 1 and not tpu)
    layout = None
    if mesh.shape["context"] > 1:
        layout = Layout(functools.partial(_clip, mesh=mesh), functools.partial(_kernel, mesh=mesh))
    with spread_by(None if alone else Spread(own, cross if tpu else None)), laid_out_by(layout):
        yield


def _clip(x: Array, mesh: Mesh) -> Array:
    """x [b, t, h, w, c], cut as CLIPS says, along axes that have something for every device."""
    cuts = []
    for size, axes, even in zip(x.shape, CLIPS, (True, False), strict=False):
        devices = math.prod(mesh.shape[axis] for axis in axes)
        cuts.append(None if size < devices or (even and size % devices) else axes)
    return lax.with_sharding_constraint(x, NamedSharding(mesh, PartitionSpec(*cuts)))


def _kernel(kernel: Array, axes: tuple[str | None, ...], mesh: Mesh) -> Array:
    """The kernel whole but for what `tensor` cuts; its gradient lies as the kernel is kept.

    Left to itself XLA (jax 0.10.2) sums products of cut kernels with tokens that lie along the same axis over all of
    its devices: activations travel, which over 256 chips are many times the kernels. Of the gradient
    the sum is asked for before its parts, so that no tokens need travel there either.
    """
    kept, used = kernel_shardings(kernel.shape, axes, mesh)

    @jax.custom_vjp
    def gathered(kernel):
        return lax.with_sharding_constraint(kernel, used)

    def backward(_, gradient):
        return (lax.with_sharding_constraint(lax.with_sharding_constraint(gradient, used), kept),)

    gathered.defvjp(lambda kernel: (gathered(kernel), None), backward)
    return gathered(kernel)
