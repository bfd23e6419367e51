"""AdamW (arXiv 1711.05101) or Muon (kellerjordan.github.io/posts/muon), clipped by global norm.

The learning rate warms up, stays, and falls linearly over the run's last part (arXiv 2404.06395), so that a run can be
prolonged from any checkpoint before that part."""

import dataclasses
from typing import Any, Literal

import jax
import optax

MUON_RMS = 0.2
"""Muon's updates are scaled to AdamW's usual size, so that one learning rate serves both (arXiv 2502.16982)."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    """The highest learning rate, reached after the warm-up."""
    final_learning_rate: float = 1e-5
    warmup_steps: int = 100
    decay_fraction: float = 0.5
    """The last part of the run, over which the learning rate falls to `final_learning_rate`."""
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    momentum_dtype: Literal["float32", "bfloat16"] = "float32"
    """What the first moment is kept in; the second, whose square root divides, stays in float32."""
    clip: float = 1.0
    """Gradients are scaled down to this global norm."""

    def __post_init__(self):
        if self.momentum_dtype not in ("float32", "bfloat16"):
            raise ValueError(
                f"optimizer: momentum_dtype {self.momentum_dtype!r} is neither float32 nor bfloat16."
            )
        if not 0 <= self.decay_fraction <= 1:
            raise ValueError(f"optimizer: decay_fraction is between 0 and 1, not {self.decay_fraction}.")
        if self.learning_rate <= 0 or self.clip <= 0 or self.warmup_steps < 0:
            raise ValueError(
                "optimizer: learning_rate and clip are positive and warmup_steps is not negative."
            )


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    warmup = min(config.warmup_steps, steps)
    decay = max(round((steps - warmup) * config.decay_fraction), 1)
    highest, lowest = config.learning_rate, min(config.final_learning_rate, config.learning_rate)
    return optax.join_schedules(
        [
            optax.linear_schedule(highest / max(warmup, 1), highest, warmup),
            optax.constant_schedule(highest),
            optax.linear_schedule(highest, lowest, decay),
        ],
        [warmup, steps - decay],
    )


def matrices(params: Any) -> Any:
    """How Muon sees each parameter as a matrix: kernels by their last two axes or, of convolutions, all but the last
    against the last; stacked blocks one by one. None (everything else) is left to AdamW."""

    def shape_of(path, leaf):
        names = [getattr(key, "key", getattr(key, "name", None)) for key in path]
        if "kernel" not in names or leaf.ndim < 2:
            return None
        first = 1 if "blocks" in names and leaf.ndim > 2 else 0
        reduced = tuple(range(first, leaf.ndim - 1))
        return optax.contrib.MuonDimensionNumbers(reduction_axis=reduced, output_axis=leaf.ndim - 1)

    return jax.tree_util.tree_map_with_path(shape_of, params)


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer whose schedule ends at `steps`."""
    schedule = learning_rate_schedule(config, steps)
    if config.name == "muon":
        inner = optax.contrib.muon(
            schedule,
            weight_decay=config.weight_decay,
            mu_dtype=config.momentum_dtype,
            adam_b1=config.beta1,
            adam_b2=config.beta2,
            muon_weight_dimension_numbers=matrices,
            consistent_rms=MUON_RMS,
        )
    else:
        inner = optax.adamw(
            schedule,
            b1=config.beta1,
            b2=config.beta2,
            weight_decay=config.weight_decay,
            mu_dtype=config.momentum_dtype,
        )
    return optax.chain(optax.clip_by_global_norm(config.clip), inner)
