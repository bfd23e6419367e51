"""Which mesh, what is computed again, and in how many parts: the settings of an experiment on a topology, ranked.

There are hundreds, and a compilation takes a minute: a rough estimate of time and memory chooses which are compiled,
and their plans rank them. An experiment's batch stays as it is, so every choice trains the same.
"""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Sequence

from sora_jax.evals.plan.plan import Plan
from sora_jax.evals.plan.program import Work, model_of, with_settings
from sora_jax.evals.plan.topology import Topology
from sora_jax.models.dit import DiTConfig
from sora_jax.parallel import MeshConfig
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Sample
from sora_jax.train.vae import VAERun
from sora_jax.weights.shapes import parameter_shapes

__all__ = ["Choice", "choices", "ranked"]

REMAT = ("attention", "full", "dots")
MOST_PARTS = 8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings to compile, with what they are guessed to take on a device."""

    mesh: MeshConfig
    remat: str | None = None
    accumulate: int | None = None
    bytes: float = 0.0
    seconds: float = 0.0

    def of(self, work: Work) -> Work:
        return with_settings(work, mesh=self.mesh, remat=self.remat, accumulate=self.accumulate)


def choices(work: Work, topology: Topology) -> list[Choice]:
    """Settings that the topology and the batch allow, the most promising first.

    Raises ValueError where there are none.
    """
    found = list(_sampling(work, topology) if isinstance(work, Sample) else _training(work, topology))
    if not found:
        raise ValueError(
            f"no mesh of {topology.devices} devices divides the batch: choose a batch that shares a larger factor with "
            "them."
        )
    limit = topology.generation.usable_memory if topology.generation else math.inf
    return sorted(found, key=lambda choice: (choice.bytes > limit, choice.seconds, choice.bytes))


def _meshes(devices: int, heads: int) -> Iterator[tuple[int, int, int, int]]:
    divisors = [n for n in range(1, devices + 1) if devices % n == 0]
    for fsdp, context, tensor in itertools.product(divisors, divisors, divisors):
        if devices % (fsdp * context * tensor) == 0 and tensor <= 8 and heads % tensor == 0:
            yield devices // (fsdp * context * tensor), fsdp, context, tensor


def _training(run, topology: Topology) -> Iterator[Choice]:
    vae = isinstance(run, VAERun)
    meshes = _meshes(topology.devices, 1 if vae else run.model.dit.heads)
    # Nothing is guessed of an autoencoder: whole clips come before cut ones, which exchange rows and frames.
    for data, fsdp, context, tensor in sorted(meshes, key=lambda mesh: mesh[2]) if vae else meshes:
        if data % topology.slices:
            continue
        mesh = MeshConfig(data=data, fsdp=fsdp, context=context, tensor=tensor, attention=run.mesh.attention)
        parts = [n for n in range(1, MOST_PARTS + 1) if run.batch_size % (n * data * fsdp) == 0]
        for accumulate, remat in itertools.product(parts, (None,) if vae else REMAT):
            if run.mesh.attention == "ulysses" and not vae and (run.model.dit.heads // tensor) % context:
                continue
            choice = Choice(mesh=mesh, remat=remat, accumulate=accumulate)
            if vae:
                yield choice
                continue
            size = run.model.vae.latent_shape(run.data.frames, run.data.height, run.data.width)
            rows = run.batch_size // (data * fsdp * accumulate)
            state = 4 if getattr(run, "lora", None) is None else 0
            yield _guessed(choice, run.model.dit, size, rows, topology, state)


def _sampling(sample: Sample, topology: Topology) -> Iterator[Choice]:
    config = model_of(sample.model)
    request = resolve(config, ["a clip"], **sample.sizes())
    size = request.size
    latent = config.vae.latent_shape(size.frames, size.height, size.width)
    for data, fsdp, context, tensor in _meshes(topology.devices, config.dit.heads):
        if (data, fsdp) != (1, 1):
            continue
        mesh = MeshConfig(data=1, context=context, tensor=tensor, attention=sample.attention)
        yield _guessed(Choice(mesh=mesh), config.dit, latent, 2 if request.guided else 1, topology, 0)


def _guessed(
    choice: Choice, dit: DiTConfig, latent: tuple[int, ...], rows: int, topology: Topology, state: int
) -> Choice:
    """The choice with a device's bytes, of `state` float32 copies of the parameters and of activations, and the seconds
    of what choices differ in: computing again, and sending weights, tokens and sums over all links at full rate."""
    mesh, parts = choice.mesh, choice.accumulate or 1
    parameters = sum(math.prod(shape) for shape in parameter_shapes(dit).values())
    tokens = math.prod(size // patch for size, patch in zip(latent[:3], dit.patch, strict=True))
    own = rows * tokens / mesh.context
    cut = mesh.fsdp * mesh.context * mesh.tensor
    features = {None: 0, "full": 1, "attention": 2, "dots": 7 + dit.ffn_width / dit.width}[choice.remat]
    held = 4 * (state + (2 if parts > 1 else 1) * (state > 0)) * parameters / cut
    kept = 2 * own * dit.width * dit.depth * features
    worked = own * (24 * dit.width + 6 * dit.ffn_width / mesh.tensor)
    if topology.generation is None:
        return dataclasses.replace(choice, bytes=held + kept + worked)

    products = 2 * own * parameters * parts / mesh.tensor
    attention = 4 * own * tokens * dit.width * dit.depth * parts / mesh.tensor
    times = {None: (1, 1), "full": (4, 5.5), "attention": (4, 4.5), "dots": (3.1, 4.5)}[choice.remat]
    compute = (products * times[0] + attention * times[1]) / topology.generation.chip.peak()
    passes = 1 if state == 0 else 3
    weights = 2 * parameters / mesh.tensor * parts * passes * (1 - 1 / (mesh.fsdp * mesh.context))
    exchanged = 0.0 if mesh.context == 1 else 4 * 2 * own * dit.width * dit.depth * parts * passes
    summed = 0.0 if mesh.tensor == 1 else 8 * 2 * own * dit.width * dit.depth * parts * passes
    links = 2 * topology.generation.sides * topology.generation.link_bandwidth
    sent = (weights + exchanged + summed) * topology.generation.chip.devices / links
    return dataclasses.replace(choice, bytes=held + kept + worked, seconds=max(compute, sent) + 0.1 * sent)


def ranked(plans: Sequence[Plan]) -> list[Plan]:
    """Those that fit first, then by the bound on a step's time, then by memory."""
    return sorted(
        plans,
        key=lambda plan: (
            plan.fits is False,
            math.inf if plan.step_seconds_roofline is None else plan.step_seconds_roofline,
            plan.hbm_bytes_per_chip,
        ),
    )
