"""What one batch of clips is to be: every choice made, checked, and equal for equal requests."""

import dataclasses
import math
import numbers
from collections.abc import Sequence
from typing import Any

import numpy as np

from sora_jax.diffusion.cache import StepCache, setting_of, step_cache
from sora_jax.diffusion.samplers import SAMPLERS
from sora_jax.models.config import ModelConfig
from sora_jax.studio.size import ClipSize, resolve_size

__all__ = ["Request", "check_request", "resolve", "seeds_of"]


MAX_BATCH = 256
MAX_STEPS = 1000
MAX_GUIDANCE = 100.0
SEEDS = 2**32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Request:
    """A batch: row i shows prompts[i] from the noise of seeds[i]."""

    prompts: tuple[str, ...]
    seeds: tuple[int, ...]
    size: ClipSize
    steps: int
    guidance: tuple[float, ...]
    """The guidance of each step."""
    history: float = 0.0
    """The noise level at which guidance's negative sees known frames: 0 as they are, 1 not at all."""
    negative: str
    sampler: str
    cache: StepCache | None = None
    """Which steps are skipped; None evaluates them all."""
    changes: tuple[dict[str, Any], ...] = ()
    """What was changed while the clips were made, and before which step."""

    @property
    def guided(self) -> bool:
        """Whether the network must also be asked without the prompt."""
        return any(g != 1 for g in self.guidance)

    @property
    def latest(self) -> tuple[tuple[str, ...], str]:
        """Prompts and negative after all changes."""
        last: dict[str, Any] = {name: value for change in self.changes for name, value in change.items()}
        return tuple(last.get("prompts", self.prompts)), last.get("negative", self.negative)

    @property
    def cache_setting(self) -> float | str | None:
        """`cache` as `resolve` takes it."""
        return None if self.cache is None else setting_of(self.cache)

    def settings(self, row: int) -> dict[str, Any]:
        """What makes row `row` again, as JSON holds it."""
        return {**self.choices(row), **dataclasses.asdict(self.size)}

    def choices(self, row: int) -> dict[str, Any]:
        """The same but for its size."""
        same = len(set(self.guidance)) == 1
        return {
            "prompt": self.prompts[row],
            "seed": self.seeds[row],
            "steps": self.steps,
            "guidance": self.guidance[0] if same else list(self.guidance),
            **({"history": self.history} if self.history else {}),
            "negative": self.negative,
            "sampler": self.sampler,
            **({"cache": self.cache_setting} if self.cache else {}),
            **({"changes": [_of_row(change, row) for change in self.changes]} if self.changes else {}),
        }


def _of_row(change: dict[str, Any], row: int) -> dict[str, Any]:
    rest = {name: value for name, value in change.items() if name != "prompts"}
    return {**rest, "prompt": change["prompts"][row]} if "prompts" in change else rest


def check_request(
    *,
    variations: int = 1,
    steps: int | None = None,
    guidance: float | Sequence[float] | np.ndarray | None = None,
    seed: int | Sequence[int] = 0,
) -> None:
    """Raises ValueError for a number that no model takes."""
    if not 1 <= variations <= MAX_BATCH:
        raise ValueError(f"variations is {variations} and must be from 1 to {MAX_BATCH}.")
    if steps is not None and not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps is {steps} and must be from 1 to {MAX_STEPS}.")
    for value in np.atleast_1d(np.asarray(1.0 if guidance is None else guidance, np.float64)).ravel():
        if not (math.isfinite(value) and 0 <= value <= MAX_GUIDANCE):
            raise ValueError(
                f"guidance is {value:g} and must be from 0 to {MAX_GUIDANCE:g}; 1 is no guidance."
            )
    for one in np.atleast_1d(np.asarray(seed, object)):
        if not isinstance(one, numbers.Integral) or not 0 <= int(one) < SEEDS:
            raise ValueError(f"seed is {one} and must be a whole number from 0 to {SEEDS - 1}.")


def seeds_of(seed: int | Sequence[int], rows: int) -> tuple[int, ...]:
    """The seed of each row: `seed` + row, modulo 2³², or what it lists. Raises ValueError for what is no seed."""
    check_request(seed=seed)
    listed = tuple(int(one) for one in np.atleast_1d(seed))
    if np.ndim(seed) == 0:
        return tuple((listed[0] + row) % SEEDS for row in range(rows))
    if len(listed) != rows:
        raise ValueError(f"{len(listed)} seeds for {rows} clips: give one each, or a single number.")
    return listed


def resolve(
    config: ModelConfig,
    prompts: Sequence[str],
    *,
    seed: int | Sequence[int] = 0,
    variations: int = 1,
    seconds: float | None = None,
    frames: int | None = None,
    fps: float | None = None,
    size: str | tuple[int, int] | None = None,
    aspect: str | None = None,
    steps: int | None = None,
    guidance: float | Sequence[float] | np.ndarray | None = None,
    guidance_2: float | None = None,
    history: float | None = None,
    negative: str | None = None,
    sampler: str | None = None,
    cache: float | str | StepCache | None = None,
) -> Request:
    """The request, with the model's defaults where nothing is said. See `Pipeline.generate`."""
    check_request(variations=variations, steps=steps, guidance=guidance)
    check_request(guidance=guidance_2)
    if history is not None and not 0 <= history <= 1:
        raise ValueError(f"history is {history:g}, a noise level: it must be from 0 to 1.")
    defaults = config.defaults
    rows = len(prompts) * variations
    if not prompts:
        raise ValueError("there are no prompts: give at least one.")
    if rows > MAX_BATCH:
        raise ValueError(f"{rows} clips at once are too many: make at most {MAX_BATCH} in one batch.")
    seeds = seeds_of(seed, rows)
    steps = defaults.steps if steps is None else steps
    sampler = defaults.sampler if sampler is None else sampler
    if sampler not in SAMPLERS:
        raise ValueError(f"there is no sampler {sampler!r}: choose one of {', '.join(SAMPLERS)}.")
    curve = np.atleast_1d(np.asarray(defaults.guidance if guidance is None else guidance, np.float64))
    if curve.shape not in ((1,), (steps,)):
        raise ValueError(f"guidance has shape {curve.shape}: give one number, or {steps}, one a step.")
    curve = np.broadcast_to(curve, (steps,))
    if guidance_2 is not None and config.boundary_ratio is None:
        raise ValueError(
            f"guidance_2 is {guidance_2:g} and {config.name} has one expert: give guidance alone."
        )
    low = defaults.guidance_2 if guidance is None and guidance_2 is None else guidance_2
    if low is not None:
        sigmas = SAMPLERS[sampler].schedule(steps, config.flow_shift)[:-1]
        curve = np.where([config.expert(sigma) == "dit" for sigma in sigmas], curve, low)
    negative = defaults.negative_prompt if negative is None else negative
    return Request(
        prompts=tuple(prompt for prompt in prompts for _ in range(variations)),
        seeds=seeds,
        size=resolve_size(config, seconds=seconds, frames=frames, fps=fps, size=size, aspect=aspect),
        steps=steps,
        guidance=tuple(float(g) for g in curve),
        history=0.0 if history is None else float(history),
        negative=" ".join(negative.split()),
        sampler=sampler,
        cache=None if cache is None else step_cache(cache),
    )
