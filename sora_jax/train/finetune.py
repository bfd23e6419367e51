"""Fine-tuning a denoiser that exists, whole or by LoRA (arXiv 2106.09685), on a folder of clips and captions.

    L(φ) = E |v_θ(φ)(x_σ, σ, c) - (ε - x_0)|²,    θ(φ) = φ  or  θ₀ + α/r · A·B with φ = (A, B)

The text encoder and the VAE are frozen: their features and latents are computed once and kept on disk. With a LoRA, so
is θ₀, and the state holds the factors alone.
"""

import dataclasses
import functools
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from sora_jax.data.clips import ClipsConfig, Prepared, prepare
from sora_jax.data.pipeline import bucketed_batches
from sora_jax.diffusion.levels import TEXT_TO_VIDEO, LevelMix
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import ModelConfig
from sora_jax.models.dit import DiT
from sora_jax.models.lora import LoRAConfig, apply_lora, init_lora
from sora_jax.models.text import TextEncoder
from sora_jax.models.vae import VAE
from sora_jax.parallel import MeshConfig, batch_sharding, data_host, make_mesh, own_mesh, place, shardings
from sora_jax.parallel.hosts import Meeting, gather
from sora_jax.train.dit import Tokenize, denoising_loss, latent_encoder
from sora_jax.train.loop import Evaluate, LoopConfig, train
from sora_jax.train.optimizer import OptimizerConfig, make_optimizer
from sora_jax.train.state import TrainState, initial_state
from sora_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class FineTuneRun(LoopConfig):
    """A training run that starts from a model's weights. With `lora` only the adapter is trained."""

    model: ModelConfig
    """The network of `start_from`; what the backward pass recomputes (`dit.remat`) may be chosen here."""
    start_from: str
    """A model's name or a folder of weights, as `sora.load` takes it."""
    data: ClipsConfig
    lora: LoRAConfig | None = None
    cache: str | None = None
    """Folder of the cached latents and text features; none means `cache` in the run's own folder."""
    caption_dropout: float = 0.1
    levels: LevelMix = TEXT_TO_VIDEO
    sigma: LogitNormal = LogitNormal()
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Of the matrix products, and of the frozen kernels."""
    prompts: tuple[str, ...] = ()
    """Shown at each sheet of samples; none draws no sheet."""
    optimizer: OptimizerConfig = OptimizerConfig(learning_rate=1e-4, weight_decay=0.0)
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}: it lies in [0, 1).")
        if self.dtype not in ("float32", "bfloat16"):
            raise ValueError(f"dtype is {self.dtype!r}: choose float32 or bfloat16.")
        if self.model.dit.in_channels != self.model.vae.latent_channels:
            raise ValueError(
                f"{self.model.name} takes an image beside the noise: fine-tuning is for text-to-video networks."
            )
        if self.model.boundary_ratio is not None:
            raise ValueError(f"{self.model.name} has two denoisers: fine-tuning is for models of one.")
        self.data.buckets(self.model.vae.temporal_factor, self.grid)

    @property
    def grid(self) -> int:
        """Pixels along a token's side."""
        if self.model.dit.patch[1] != self.model.dit.patch[2]:
            raise ValueError(f"patch {self.model.dit.patch}: fine-tuning needs tokens of equal sides.")
        return self.model.vae.spatial_factor * self.model.dit.patch[1]


def boxed_params(run: FineTuneRun) -> Any:
    """The denoiser's parameters as shapes that carry their logical axes."""
    c = run.model.dit
    inputs = (jnp.zeros((1, *c.patch, c.in_channels)), jnp.zeros((1,)), jnp.zeros((1, 1, c.text_width)))
    return jax.eval_shape(DiT(c).init, jax.random.key(0), *inputs)["params"]


def finetune_loss(
    params: Any, batch: dict[str, Array], key: Array, frozen: dict[str, Any], *, run: FineTuneRun
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics on `latents` [b, t, h, w, c], `text` [b, s, d] and `mask` [b, s] of the batch.

    `params` are the denoiser's, or a LoRA's factors; `frozen` has the features and mask of the empty caption, `empty`,
    and with a LoRA the denoiser's parameters, `dit`.
    """
    noise_key, level_key, drop_key = jax.random.split(key, 3)
    drop = jax.random.bernoulli(drop_key, run.caption_dropout, batch["mask"].shape[:1])
    text = jnp.where(drop[:, None, None], frozen["empty"][0][None], batch["text"])
    mask = jnp.where(drop[:, None], frozen["empty"][1][None], batch["mask"])
    if run.lora:
        params = apply_lora(frozen["dit"], params, run.lora.scale)
    return denoising_loss(
        params,
        batch["latents"],
        text,
        mask if run.model.mask_text else None,
        (noise_key, level_key),
        dit=DiT(run.model.dit, jnp.dtype(run.dtype)),
        levels=run.levels,
        sigma_draw=run.sigma,
    )


def lora_init(run: FineTuneRun) -> Callable[[], Any]:
    """A function that draws the factors of `run.lora`, with their logical axes."""
    assert run.lora is not None
    boxed = boxed_params(run)
    return functools.partial(init_lora, boxed, run.lora, jax.random.key(run.seed))


def trained_init(run: FineTuneRun) -> Callable[[], Any]:
    """A function whose result has the shapes and logical axes of what the run trains: a LoRA's factors as they start,
    or zeros for the denoiser."""
    if run.lora:
        return lora_init(run)
    boxed = boxed_params(run)
    return lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), boxed)


def frozen_shardings(run: FineTuneRun, mesh: Mesh) -> Any:
    """Where the frozen tree lies: the parameters as in training, the empty caption's features cut over fsdp."""
    text = jax.ShapeDtypeStruct((run.model.text.max_length, run.model.text.width), jnp.float32)
    features = shardings(nn.LogicallyPartitioned(text, (None, "embed")), mesh)  # pyright: ignore[reportArgumentType]
    return {
        "empty": (features, NamedSharding(mesh, PartitionSpec())),
        **({"dit": shardings(boxed_params(run), mesh)} if run.lora else {}),
    }


def frozen_dtype(params: Any, dtype: Any) -> Any:
    """The blocks' kernels as `dtype`; norms, tables and the noise level's path stay float32, as they are computed."""
    flat: dict[str, Any] = dict(flatten_dict(params, sep="/"))
    kernels = {path for path in flat if path.startswith("blocks/") and path.endswith("/kernel")}
    return unflatten_dict(
        {path: leaf.astype(dtype) if path in kernels else leaf for path, leaf in flat.items()}, sep="/"
    )


def padded(features: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Features [n, d] of a caption's tokens as ([length, d] with zeros after them, bool [length])."""
    text = np.zeros((length, features.shape[-1]), np.float32)
    text[: len(features)] = features
    return text, np.arange(length) < len(features)


def to_example(prepared: Prepared, length: int) -> Callable[[dict[str, Any], np.random.Generator], Any]:
    """A random map: one of a clip's captions, drawn anew each epoch, as features."""

    def choose(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        captions = example["captions"]
        text, mask = padded(prepared.features(captions[int(rng.integers(len(captions)))]), length)
        return {"latents": example["latents"], "text": text, "mask": mask}

    return choose


Captions = Callable[[Sequence[str]], list[np.ndarray]]


def text_encoder(run: FineTuneRun, params: Any, tokenize: Tokenize, mesh: Mesh) -> Captions:
    """Captions to the features [n, d] of their own tokens. The encoder is cut over `mesh`, and so are the captions."""
    encoder, rows = TextEncoder(run.model.text, jnp.dtype(run.dtype)), batch_sharding(mesh)
    boxed = jax.eval_shape(encoder.init, jax.random.key(0), *tokenize([""]))["params"]

    @functools.cache
    def placed() -> Any:
        return jax.device_put(params, shardings(boxed, mesh))

    @functools.partial(jax.jit, out_shardings=rows)
    def encode(params, ids, mask):
        out: Any = encoder.apply({"params": params}, ids, mask)
        return out.astype(jnp.float32)

    def features(captions: Sequence[str]) -> list[np.ndarray]:
        short = -len(captions) % mesh.size
        ids, mask = tokenize([*captions, *[captions[-1]] * short])
        out = np.asarray(encode(placed(), *jax.device_put((ids, mask), rows)))
        return [text[own] for text, own in zip(out, mask, strict=True)][: len(captions)]

    return features


def clip_encoder(run: FineTuneRun, params: Any, mesh: Mesh) -> Callable[[np.ndarray], np.ndarray]:
    """Clips to latents, as `latent_encoder`; the VAE is cut over `mesh`, and so are the clips."""
    vae, side = VAE(run.model.vae, jnp.dtype(run.dtype)), run.model.vae.spatial_factor
    smallest = jnp.zeros((1, 1 + run.model.vae.temporal_factor, side, side, 3))

    @functools.cache
    def encoder() -> Callable[[np.ndarray], np.ndarray]:
        boxed = jax.eval_shape(vae.init, jax.random.key(0), smallest)["params"]
        return latent_encoder(vae, jax.device_put(params, shardings(boxed, mesh)), mesh)

    return lambda video: encoder()(video)


def prepare_clips(
    run: FineTuneRun,
    workdir: Path,
    params: Mapping[str, Any],
    tokenize: Tokenize,
    fingerprints: Mapping[str, str],
    **options: Any,
) -> Prepared:
    """The folder's clips as latents and features, in `run.cache`, which all processes share.

    Each process encodes its part of them, on a mesh of its own devices and not on the run's: of a program over devices
    of several processes all would have to give the same clips. The text encoder and the VAE are cut over that mesh by
    the one table, from the first clip or caption on that isn't in the cache, and each device encodes its own.
    """
    meeting, mesh = Meeting(run.host_timeout), own_mesh()

    def together(value: Any) -> list[Any]:
        meeting.wait("the next clips and captions to encode")
        return gather(value)

    return prepare(
        run.data,
        Path(run.cache) if run.cache else workdir / "cache",
        temporal_factor=run.model.vae.temporal_factor,
        grid=run.grid,
        encode=clip_encoder(run, params["vae"], mesh),
        encode_text=text_encoder(run, params["text"], tokenize, mesh),
        made_from=fingerprints,
        at_once=mesh.size,
        host=jax.process_index(),
        hosts=jax.process_count(),
        together=together,
        **options,
    )


def run_finetune(
    run: FineTuneRun,
    workdir: Path,
    *,
    denoiser: Callable[[Mesh], tuple[Any, str]],
    prepared: Prepared,
    evaluate: Evaluate | None = None,
) -> TrainState:
    """Trains `run.lora`, or the whole denoiser, from what it is; goes on from the newest checkpoint in `workdir`.

    `denoiser` gives its parameters, best as they lie on a mesh, and their fingerprint, which ties the run's folder to
    the weights it started from: the checkpoints don't hold those.
    """
    mesh = make_mesh(run.mesh)
    dit, fingerprint = denoiser(mesh)
    tx = make_optimizer(run.optimizer, run.steps)
    length = run.model.text.max_length
    frozen: dict[str, Any] = {"empty": padded(prepared.features(""), length)}
    if run.lora:
        frozen["dit"], dit = frozen_dtype(dit, jnp.dtype(run.dtype)), None
    frozen = place(frozen, frozen_shardings(run, mesh))
    state, state_shardings = initial_state(trained_init(run), tx, mesh, dit, averaged=run.averaged)
    del dit  # of a denoiser that is trained the state holds a copy
    host, hosts = data_host(mesh)
    data = bucketed_batches(
        prepared.sources,
        batch_size=run.batch_size,
        seed=run.seed,
        random_maps=[to_example(prepared, length)],
        host=host,
        hosts=hosts,
    )
    return train(
        workdir=workdir,
        config=run,
        resolved={**dataclasses.asdict(run), "base": fingerprint, "clips": prepared.digest},
        mesh=mesh,
        attention=run.mesh.attention,
        state=state,
        state_shardings=state_shardings,
        tx=tx,
        loss_fn=loss_of(run),
        data=data,
        evaluate=evaluate,
        frozen=frozen,
    )


def loss_of(run: FineTuneRun) -> Callable[..., tuple[Array, dict[str, Array]]]:
    """The loss as the loop calls it: (params, batch, key, frozen=...)."""
    return functools.partial(finetune_loss, run=run)
