"""AdamW (arXiv 1711.05101) or Muon (kellerjordan.github.io/posts/muon), warm-up and cosine decay, global-norm clipping."""

import dataclasses
from typing import Literal

import optax


@dataclasses.dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    name: Literal["adamw", "muon"] = "adamw"
    learning_rate: float = 1e-3
    """The highest learning rate, reached after the warm-up."""
    final_learning_rate: float = 1e-5
    warmup_steps: int = 100
    weight_decay: float = 0.01
    beta1: float = 0.9
    beta2: float = 0.99
    clip: float = 1.0
    """Gradients are scaled down to this global norm."""

    def __post_init__(self):
        if self.learning_rate <= 0 or self.clip <= 0 or self.warmup_steps < 0:
            raise ValueError("optimizer: learning_rate and clip are positive and warmup_steps is not negative.")


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    return optax.warmup_cosine_decay_schedule(
        init_value=0.0,
        peak_value=config.learning_rate,
        warmup_steps=min(config.warmup_steps, max(steps - 1, 0)),
        decay_steps=max(steps, 1),
        end_value=min(config.final_learning_rate, config.learning_rate),
    )


def make_optimizer(config: OptimizerConfig, steps: int) -> optax.GradientTransformation:
    """The optimizer whose schedule ends at `steps`."""
    schedule = learning_rate_schedule(config, steps)
    if config.name == "muon":
        inner = optax.contrib.muon(schedule, weight_decay=config.weight_decay, adam_b1=config.beta1, adam_b2=config.beta2)
    else:
        inner = optax.adamw(schedule, b1=config.beta1, b2=config.beta2, weight_decay=config.weight_decay)
    return optax.chain(optax.clip_by_global_norm(config.clip), inner)
