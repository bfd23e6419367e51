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
from sora_jax.evals.runs import Experiment
from sora_jax.models.dit import DiTConfig
from sora_jax.parallel import MeshConfig
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Sample
from sora_jax.train.vae import VAERun
from sora_jax.weights.shapes import parameter_shapes

__all__ = ["Choice", "choices", "ranked"]

REMAT = ("attention", "full", "dots", "none", "offload")
"""Every policy once: minimal is dots."""
MOST_PARTS = 8
HOST_BANDWIDTH = 16e9
"""Bytes a second between a device and its host, one way: of PCIe 3.0 x16, since TPUs' own figure isn't published."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """Settings to compile, with what they are guessed to take on a device."""

    mesh: MeshConfig
    remat: str | None = None
    accumulate: int | None = None
    bytes: float = 0.0
    seconds: float = 0.0
    """Only good for comparing choices."""

    def of(self, work: Work) -> Work:
        return with_settings(work, mesh=self.mesh, remat=self.remat, accumulate=self.accumulate)


def choices(work: Work, topology: Topology) -> list[Choice]:
    """Settings that the topology and the batch allow, the most promising first.

    Raises ValueError where there are none.
    """
    if isinstance(work, Sample):
        found = list(_sampling(work, topology))
    elif isinstance(work, VAERun):
        found = list(_autoencoder(work, topology))
    else:
        found = list(_training(work, topology))
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


def _parts(run: Experiment, data: int, fsdp: int) -> list[int]:
    return [n for n in range(1, MOST_PARTS + 1) if run.batch_size % (n * data * fsdp) == 0]


def _training(run, topology: Topology) -> Iterator[Choice]:
    dit = run.model.dit
    size = run.model.vae.latent_shape(run.data.frames, run.data.height, run.data.width)
    state = 4 if getattr(run, "lora", None) is None else 0
    for data, fsdp, context, tensor in _meshes(topology.devices, dit.heads):
        if data % topology.slices:
            continue
        if run.mesh.attention == "ulysses" and (dit.heads // tensor) % context:
            continue
        mesh = MeshConfig(data=data, fsdp=fsdp, context=context, tensor=tensor, attention=run.mesh.attention)
        for accumulate, remat in itertools.product(_parts(run, data, fsdp), REMAT):
            rows = run.batch_size // (data * fsdp * accumulate)
            choice = Choice(mesh=mesh, remat=remat, accumulate=accumulate)
            yield _guessed(choice, dit, size, rows, topology, state)


def _autoencoder(run: VAERun, topology: Topology) -> Iterator[Choice]:
    """Not guessed, but in order: cut frames and rows go to their neighbours at every layer, so the fewest cuts come
    first."""
    for data, fsdp, context, _ in sorted(_meshes(topology.devices, 1), key=lambda mesh: mesh[2]):
        if data % topology.slices == 0:
            mesh = MeshConfig(data=data, fsdp=fsdp, context=context)
            yield from (Choice(mesh=mesh, accumulate=parts) for parts in _parts(run, data, fsdp))


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
    of what choices differ in: computing again, sending weights, tokens and sums over all links at full rate, and moving
    what waits on the host there and back."""
    mesh, parts = choice.mesh, choice.accumulate or 1
    parameters = sum(math.prod(shape) for shape in parameter_shapes(dit).values())
    tokens = math.prod(size // patch for size, patch in zip(latent[:3], dit.patch, strict=True))
    own = rows * tokens / mesh.context
    cut = mesh.fsdp * mesh.context * mesh.tensor
    wide = dit.ffn_width / dit.width
    # Arrays of the width that a block leaves for the backward pass, by their own count in the compute dtype.
    features = {None: 0, "full": 1, "attention": 2, "dots": 7 + wide, "none": 56 + 2 * wide, "offload": 1}
    held = 4 * (state + (2 if parts > 1 else 1) * (state > 0)) * parameters / cut
    kept = 2 * own * dit.width * dit.depth * features[choice.remat]
    worked = own * (24 * dit.width + 6 * dit.ffn_width / mesh.tensor)
    if topology.generation is None:
        return dataclasses.replace(choice, bytes=held + kept + worked)

    products = 2 * own * parameters * parts / mesh.tensor
    attention = 4 * own * tokens * dit.width * dit.depth * parts / mesh.tensor
    again = {
        "full": (4, 5.5),
        "attention": (4, 4.5),
        "dots": (3.1, 4.5),
        "none": (3, 4.5),
        "offload": (3.1, 5.5),
    }
    times = again[choice.remat] if choice.remat else (1, 1)
    compute = (products * times[0] + attention * times[1]) / topology.generation.chip.peak()
    passes = 1 if state == 0 else 3
    weights = 2 * parameters / mesh.tensor * parts * passes * (1 - 1 / (mesh.fsdp * mesh.context))
    exchanged = 0.0 if mesh.context == 1 else 4 * 2 * own * dit.width * dit.depth * parts * passes
    summed = 0.0 if mesh.tensor == 1 else 8 * 2 * own * dit.width * dit.depth * parts * passes
    links = 2 * topology.generation.sides * topology.generation.link_bandwidth
    sent = (weights + exchanged + summed) * topology.generation.chip.devices / links
    waiting = 2 * own * dit.width * dit.depth * parts * (7 + wide) if choice.remat == "offload" else 0.0
    seconds = max(compute, sent, 2 * waiting / HOST_BANDWIDTH) + 0.1 * sent
    return dataclasses.replace(choice, bytes=held + kept + worked, seconds=seconds)


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
