"""Low-rank adaptation (arXiv 2106.09685) of a tree of parameters:  W' = W + α/r · A·B,  A [d_in, r], B [r, d_out].

The networks know nothing of it: an adapter is a tree of its own, and adapted parameters are parameters. B starts at
zero, so that an adapter starts as the identity; A's first draw is PEFT's, U(-1/√d_in, 1/√d_in).
"""

import dataclasses
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict

from sora_jax.typing import Array

Lora = Mapping[str, Mapping[str, Any]]
"""{"/"-joined path of a kernel: {"a": [..., d_in, r], "b": [..., r, d_out]}}; stacked kernels have stacked factors.
What was trained in full, such as a bias, is {path: {"delta": of the parameter's shape}}."""

ATTENTION = r"blocks/(self|cross)_attention/(query|key|value|out)/kernel"
"""The kernels that LoRAs of Wan adapt by custom."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoRAConfig:
    """Which kernels are adapted, and how much."""

    rank: int = 16
    alpha: float = 16.0
    """The product is scaled by alpha / rank, so that the learning rate needn't follow the rank."""
    targets: str = ATTENTION
    """A regular expression that a kernel's whole "/"-joined path in the denoiser's parameters must match."""

    def __post_init__(self):
        if self.rank < 1:
            raise ValueError(f"lora: rank is {self.rank} and must be at least 1.")
        if not (self.alpha > 0 and math.isfinite(self.alpha)):
            raise ValueError(f"lora: alpha is {self.alpha} and must be above 0.")
        try:
            re.compile(self.targets)
        except re.error as error:
            raise ValueError(f"lora: targets {self.targets!r} is no regular expression ({error}).") from error

    @property
    def scale(self) -> float:
        """α/r."""
        return self.alpha / self.rank


def _kernels(params: Any) -> dict[str, Any]:
    """The parameters that are matrices or stacks of them, by path."""
    flat: dict[str, Any] = dict(flatten_dict(params, sep="/"))  # pyright: ignore
    return {path: leaf for path, leaf in flat.items() if path.endswith("kernel")}


def init_lora(params: Any, config: LoRAConfig, key: Array) -> Lora:
    """Factors for the kernels of `params` that `config.targets` matches, float32, with B zero.

    `params` may be shapes alone. Where it carries logical axes, so do the factors: A keeps the name of the kernel's
    input axis and B that of its output axis. Raises ValueError where nothing matches, or the rank is no lower than a
    matched kernel's own.
    """
    lora = {}
    kernels = _kernels(params)
    found = [path for path in sorted(kernels) if re.fullmatch(config.targets, path)]
    if not found:
        raise ValueError(
            f"lora: targets {config.targets!r} matches no kernel: there are {', '.join(sorted(kernels)[:4])}, ..."
        )
    for path in found:
        names = getattr(kernels[path], "names", None)
        leaf = nn.unbox(kernels[path])
        *stack, d_in, d_out = leaf.shape
        if config.rank >= min(d_in, d_out):
            raise ValueError(
                f"lora: rank {config.rank} isn't below that of {path}, {min(d_in, d_out)}: give a lower one."
            )
        # A key by name, so that what else is adapted changes nothing.
        draw = jax.random.fold_in(key, _number(path))
        bound = d_in**-0.5
        a = jax.random.uniform(draw, (*stack, d_in, config.rank), jnp.float32, -bound, bound)
        b = jnp.zeros((*stack, config.rank, d_out), jnp.float32)
        if names is not None:
            a = nn.LogicallyPartitioned(a, names=(*names[:-1], None))
            b = nn.LogicallyPartitioned(b, names=(*names[:-2], None, names[-1]))
        lora[path] = {"a": a, "b": b}
    return lora


def _number(path: str) -> int:
    """The same 32 bits for the same text on any machine (FNV-1a)."""
    number = 2166136261
    for byte in path.encode():
        number = (number ^ byte) * 16777619 % 2**32
    return number


def _change(factors: Mapping[str, Any]) -> Array:
    """A·B, or what is added as it is."""
    if "delta" in factors:
        return jnp.asarray(factors["delta"], jnp.float32)
    a, b = (jnp.asarray(factors[name], jnp.float32) for name in "ab")
    return jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)


def apply_lora(params: Any, lora: Lora, scale: float = 1.0) -> Any:
    """W + scale·A·B for every kernel that `lora` has, summed in float32 and cast back; the rest as it is."""
    return merge(params, [(lora, scale)])


def merge(params: Any, adapters: Sequence[tuple[Lora, float]]) -> Any:
    """The parameters with several adapters, each with its scale, summed in float32 before one cast.

    Raises ValueError where an adapter has a kernel that the parameters lack, or of another shape.
    """
    flat: dict[str, Any] = dict(flatten_dict(params, sep="/"))  # pyright: ignore
    changes: dict[str, Any] = {}
    for lora, scale in adapters:
        for path, factors in lora.items():
            change = scale * _change(factors)
            if path not in flat or flat[path].shape != change.shape:
                there = list(flat[path].shape) if path in flat else "nothing"
                raise ValueError(
                    f"the LoRA changes {path} {list(change.shape)} and the network has {there} there: "
                    "it was made for another network."
                )
            changes[path] = changes[path] + change if path in changes else change
    for path, change in changes.items():
        kernel = jnp.asarray(flat[path])
        flat[path] = (kernel.astype(jnp.float32) + change).astype(kernel.dtype)
    return unflatten_dict(flat, sep="/")
