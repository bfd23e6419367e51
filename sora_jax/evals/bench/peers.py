"""The same networks here and by diffusers on Torch: same weights, same inputs, same threads, in turns.

Both sides are as a user has them: ours compiled by XLA, diffusers' modules run as they are. A train step is forward,
gradients of mean (v - target)², and AdamW. Ours computes again what its size says (`remat`), diffusers' nothing. The
error is that of `evals.parity`.
"""

import copy
import dataclasses
import functools
import importlib
import os
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from sora_jax.evals.bench.record import Measure, Peak
from sora_jax.evals.bench.sizes import random_params, sized, tokens
from sora_jax.evals.bench.timing import Compiled, Effort, compiled, interleaved, measured
from sora_jax.evals.bench.vae import vae_functions
from sora_jax.evals.parity import relative_error
from sora_jax.models.dit import DiT, DiTConfig
from sora_jax.models.vae import VAEConfig
from sora_jax.train.flops import count_flops
from sora_jax.weights import diffusers_modules
from sora_jax.weights.diffusers_dit import to_diffusers_dit
from sora_jax.weights.diffusers_export import dit_json, vae_json
from sora_jax.weights.diffusers_vae import to_diffusers_vae
from sora_jax.weights.shapes import parameter_tree

__all__ = ["CASES", "Case", "measure"]

OURS, THEIRS = "sora_jax", "diffusers"
LEARNING_RATE, BETAS, WEIGHT_DECAY = 1e-4, (0.9, 0.99), 0.01


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """One computation on clips of one size; `what` is forward, train, encode or decode."""

    model: str
    what: str
    batch_size: int
    height: int
    width: int
    frames: int
    bar: float | None = None
    """How many times as fast as diffusers it should be."""

    @property
    def name(self) -> str:
        network = "DiT" if self.what in ("forward", "train") else "VAE"
        return f"{network} {self.model}, {self.what}, batch {self.batch_size}, {self.frames}x{self.height}x{self.width}"


_SMALL = {"height": 64, "width": 64, "frames": 17}
_MIDDLE = {"height": 256, "width": 256, "frames": 5}
_TINY = {"height": 64, "width": 64, "frames": 5}
CASES = (
    # A guided generation evaluates the network on a batch of 2.
    Case(model="playground", what="forward", batch_size=2, bar=1.5, **_SMALL),
    Case(model="playground", what="forward", batch_size=16, bar=1.5, **_SMALL),
    Case(model="playground", what="train", batch_size=16, bar=1.5, **_SMALL),
    Case(model="100m", what="forward", batch_size=1, bar=1.5, **_MIDDLE),
    Case(model="100m", what="train", batch_size=1, bar=1.5, **_MIDDLE),
    Case(model="playground", what="encode", batch_size=4, bar=2.0, **_SMALL),
    Case(model="playground", what="decode", batch_size=4, bar=2.0, **_SMALL),
    Case(model="wan2_1_t2v_1_3b", what="encode", batch_size=1, bar=1.0, **_TINY),
    Case(model="wan2_1_t2v_1_3b", what="decode", batch_size=1, bar=1.0, **_TINY),
)


def torch_with_threads() -> Any:
    """Torch on as many threads as XLA has. ValueError where it or diffusers is missing."""
    for module in ("torch", "diffusers"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"comparing with diffusers needs {module}: pip install 'sora_jax[parity]'."
            ) from error
    import torch

    torch.set_num_threads(
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    )
    return torch


@functools.lru_cache(maxsize=1)
def _dit(config: DiTConfig) -> tuple[Any, Any]:
    """Our parameters, and the denoiser of diffusers that `save_diffusers` writes, with the same."""
    params = random_params(parameter_tree(config))
    return params, _loaded(diffusers_modules.network(dit_json(config)), to_diffusers_dit(params, config))


@functools.lru_cache(maxsize=1)
def _vae(config: VAEConfig) -> tuple[Any, Any]:
    """As `_dit`, of a VAE."""
    params = random_params(parameter_tree(config))
    return params, _loaded(diffusers_modules.network(vae_json(config)), to_diffusers_vae(params, config))


def _loaded(network: Any, state: dict[str, np.ndarray]) -> Any:
    import torch

    network.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in state.items()})
    return network.eval()


@dataclasses.dataclass
class Sides:
    """Both sides of a case, ready to be called, with what they give in our layout."""

    ours: Callable[[], Any]
    theirs: Callable[[], Any]
    as_ours: Callable[[Any], np.ndarray]
    program: Compiled
    flops: float
    each: dict[str, float]


def _channels_last(x: Any) -> np.ndarray:
    return np.moveaxis(x.detach().float().numpy(), 1, -1)


def _channels_first(x: np.ndarray, torch: Any, dtype: Any) -> Any:
    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(x, -1, 1))).to(dtype)


def _dit_sides(case: Case, dtype: str, torch: Any) -> Sides:
    config = sized(case.model)
    network = config.dit
    kind = getattr(torch, dtype)
    params, whole = _dit(network)
    # A training step changes its weights, and half precision is of a copy.
    theirs = whole if case.what == "forward" and dtype == "float32" else copy.deepcopy(whole)
    theirs = theirs if dtype == "float32" else theirs.to(kind)
    rng = np.random.default_rng(0)
    shape = (case.batch_size, *config.vae.latent_shape(case.frames, case.height, case.width))
    x, target = rng.standard_normal((2, *shape), np.float32)
    level = rng.uniform(0, 1000, case.batch_size).astype(np.float32)
    text = rng.standard_normal((case.batch_size, config.text.max_length, config.text.width), np.float32)
    inputs = (_channels_first(x, torch, kind), torch.from_numpy(level), torch.from_numpy(text).to(kind))
    module = DiT(network, jnp.dtype(dtype))
    # For the count: what is computed again is no part of the mathematics.
    keeping = DiT(dataclasses.replace(network, remat="none"))

    def forward(params, x, level, text, module=module):
        return module.apply({"params": params}, x, level, text)

    def their_forward():
        return theirs(inputs[0], inputs[1], inputs[2], return_dict=False)[0]

    count = case.batch_size * tokens(config, case.frames, case.height, case.width)
    arrays = tuple(jax.device_put(a) for a in (x, level, text))
    placed = jax.device_put(params)
    flops = count_flops(forward, placed, *arrays)
    if case.what == "forward":
        program = compiled(jax.jit(forward), placed, *arrays)

        def no_gradients():
            with torch.no_grad():
                return their_forward()

        return Sides(
            ours=lambda: program.call(placed, *arrays),
            theirs=no_gradients,
            as_ours=_channels_last,
            program=program,
            flops=flops,
            each={"tokens": count},
        )

    tx = optax.adamw(LEARNING_RATE, *BETAS, weight_decay=WEIGHT_DECAY)

    def loss(params, x, level, text, target, module=module):
        v: Any = forward(params, x, level, text, module)
        return jnp.mean(jnp.square(v.astype(jnp.float32) - target))

    def step(state, *batch):
        value, grads = jax.value_and_grad(loss)(state[0], *batch)
        updates, opt_state = tx.update(grads, state[1], state[0])
        return (optax.apply_updates(state[0], updates), opt_state), value

    batch = (*arrays, jax.device_put(target))
    state = jax.jit(lambda p: (jax.tree.map(jnp.copy, p), tx.init(p)))(placed)
    program = compiled(jax.jit(step, donate_argnums=0), state, *batch)
    held = [state]

    def ours():
        held[0], value = program.call(held[0], *batch)
        return value

    theirs.train()
    their_target = _channels_first(target, torch, torch.float32)
    optimizer = torch.optim.AdamW(
        theirs.parameters(), LEARNING_RATE, BETAS, weight_decay=WEIGHT_DECAY, fused=True
    )

    def their_step():
        value = (their_forward().float() - their_target).square().mean()
        value.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        return value

    return Sides(
        ours=ours,
        theirs=their_step,
        as_ours=lambda value: value.detach().numpy(),
        program=program,
        flops=count_flops(jax.value_and_grad(functools.partial(loss, module=keeping)), placed, *batch),
        each={"tokens": count},
    )


def _vae_sides(case: Case, dtype: str, torch: Any) -> Sides:
    config = sized(case.model).vae
    kind = getattr(torch, dtype)
    params, whole = _vae(config)
    theirs = whole if dtype == "float32" else copy.deepcopy(whole).to(kind)
    rng = np.random.default_rng(0)
    latent = config.latent_shape(case.frames, case.height, case.width)
    encode, decode = vae_functions(config, dtype)
    if case.what == "encode":
        given = np.tanh(
            rng.standard_normal((case.batch_size, case.frames, case.height, case.width, 3), np.float32)
        )
        function = encode
    else:
        given, function = rng.standard_normal((case.batch_size, *latent), np.float32), decode
    placed, x = jax.device_put(params), jax.device_put(given)
    program = compiled(jax.jit(function), placed, x)
    their_x = _channels_first(given, torch, kind)

    def run_theirs():
        with torch.no_grad():
            if case.what == "encode":
                return theirs.encode(their_x).latent_dist.mode()
            return theirs.decode(their_x, return_dict=False)[0]

    return Sides(
        ours=lambda: program.call(placed, x),
        theirs=run_theirs,
        as_ours=_channels_last,
        program=program,
        flops=count_flops(function, placed, x),
        each={"frames": case.batch_size * case.frames},
    )


def _sides(case: Case, dtype: str, torch: Any) -> Sides:
    make = _dit_sides if case.what in ("forward", "train") else _vae_sides
    return make(case, dtype, torch)


def measure(
    cases: tuple[Case, ...] = CASES,
    *,
    dtypes: tuple[str, ...] = ("float32",),
    effort: Effort,
    peak: Peak | None,
) -> Iterator[Measure]:
    """Each case on both sides, ours first. Figures: `times_as_fast`, diffusers' median over the side's, the `bar`, and
    the `error` of ours against theirs at the first call.

    Raises ValueError where Torch or diffusers is missing.
    """
    torch = torch_with_threads()
    for case in cases:
        for dtype in dtypes:
            sides = _sides(case, dtype, torch)
            error = relative_error(np.asarray(sides.ours(), np.float32), sides.as_ours(sides.theirs()))
            runs = {OURS: sides.ours, THEIRS: sides.theirs}
            times = interleaved(runs, effort, peak=True)
            theirs = times[THEIRS].median
            for side, seconds in times.items():
                figures: dict[str, float | None] = {"times_as_fast": theirs / seconds.median}
                if side == OURS:
                    figures |= {
                        "error": error,
                        **({"bar": case.bar} if case.bar and dtype == "float32" else {}),
                    }
                yield measured(
                    case.name,
                    f"{side}, {dtype}",
                    seconds=seconds,
                    each=sides.each,
                    flops=sides.flops,
                    peak=peak,
                    program=sides.program if side == OURS else None,
                    figures=figures,
                )
