"""Training the denoiser and its text encoder together: L = E |v_θ(x_σ, σ, c) - (ε - x_0)|² over the unknown tokens.

Every latent frame has its own noise level (diffusion forcing, arXiv 2407.01392), known frames have level 0, and the
caption is left out now and then, so that the model can be guided (arXiv 2207.12598). Latents come from a cache.
"""

import contextlib
import dataclasses
import functools
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import grain
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sora_jax.data.latents import LatentSource, clips_digest, fill
from sora_jax.data.pipeline import Source, bucketed_batches
from sora_jax.data.sources import DataConfig, caption_map, open_resized
from sora_jax.diffusion.flow import flow_loss, interpolate
from sora_jax.diffusion.levels import LevelMix, draw_levels
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import ModelConfig
from sora_jax.models.dit import DiT, timesteps
from sora_jax.models.text import TextEncoder
from sora_jax.models.vae import VAE, normalize, to_float
from sora_jax.models.vae_tiles import encode_tiled, plan_tiles
from sora_jax.parallel import MeshConfig, batch_sharding, data_host, make_mesh, spread
from sora_jax.parallel.memory import free_memory
from sora_jax.train.loop import Evaluate, LoopConfig, train
from sora_jax.train.optimizer import OptimizerConfig, make_optimizer
from sora_jax.train.state import TrainState, initial_state
from sora_jax.train.step import LossFn
from sora_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Size:
    """Steps on clips of another size, each batch of one size alone. One frame is an image: what things look like is
    learnt from many more captions for the same tokens (arXiv 2204.03458)."""

    frames: int | None = None
    """None is that of the run's `data`, as with height and width, in pixels."""
    height: int | None = None
    width: int | None = None
    share: float
    """Of the steps, so many are on this size."""
    batch_size: int
    count: int
    """How many playground scenes there are of this size; a dataset on disk has an image for each clip."""

    def __post_init__(self):
        if not 0 < self.share < 1 or min(self.batch_size, self.count) < 1:
            raise ValueError("sizes: a share lies between 0 and 1, and batch_size and count are at least 1.")

    def of(self, data: DataConfig) -> DataConfig:
        """`data` in this size."""
        given = {"frames": self.frames, "height": self.height, "width": self.width}
        changed = {name: value for name, value in given.items() if value is not None}
        return dataclasses.replace(data, count=self.count, **changed)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTRun(LoopConfig):
    """A training run of a denoiser with its text encoder, on the latents of a trained VAE."""

    model: ModelConfig
    vae: str
    """Where the VAE's weights are: a folder with `vae.safetensors`, such as the `weights` of a VAE's run."""
    start: str | None = None
    """Weights of a model to start from: a folder, as `sora.load` takes it. Its latents may be another VAE's, with other
    channels (`sora_jax.models.dit_axes`); its tokenizer is taken over."""
    data: DataConfig = DataConfig()
    sizes: tuple[Size, ...] = ()
    """Sizes beside that of `data`. A run may be resumed with others; then other examples come next."""
    latents: str | None = None
    """Folder of the latent cache; none means `latents` in the run's own folder."""
    caption_dropout: float = 0.1
    caption_tokens: int | None = None
    """Captions are padded or cut to so many tokens; none means all that the text encoder takes."""
    levels: LevelMix = LevelMix()
    """How often each kind of conditioning is drawn."""
    sigma: LogitNormal = LogitNormal()
    """How the noise levels of a clip are drawn. Those of fewer latent frames are shifted less."""
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        super().__post_init__()
        if not 0 <= self.caption_dropout < 1:
            raise ValueError(f"caption_dropout is {self.caption_dropout}: it lies in [0, 1).")
        if self.caption_tokens is not None and not 2 <= self.caption_tokens <= self.model.text.max_length:
            raise ValueError(
                f"caption_tokens is {self.caption_tokens}: it lies between 2 and the text encoder's "
                f"{self.model.text.max_length}."
            )
        if not self.own_share > 0:
            raise ValueError(
                f"the shares of sizes make {1 - self.own_share:g}: it must be less than 1, for the data's own size."
            )
        datas = [self.data, *(size.of(self.data) for size in self.sizes)]
        if len({(data.frames, data.height, data.width) for data in datas}) < len(datas):
            raise ValueError("sizes: two are the same; give each once, and the data's own not at all.")
        for size in self.sizes:
            if size.batch_size % self.accumulate:
                raise ValueError(
                    f"sizes: batch_size {size.batch_size} doesn't divide into {self.accumulate} equal parts."
                )

    @property
    def own_share(self) -> float:
        """Of the steps, so many are on clips as `data` has them."""
        return 1 - sum(size.share for size in self.sizes)


class Tokenize(Protocol):
    """Captions to (ids int32 [b, s], mask bool [b, s])."""

    def __call__(self, prompts: list[str]) -> tuple[np.ndarray, np.ndarray]: ...


def drop_captions(
    ids: Array, mask: Array, key: Array, empty: tuple[Array, Array], rate: float
) -> tuple[Array, Array]:
    """Each caption becomes the empty one, `empty` = (ids [s], mask [s]), with probability `rate`."""
    drop = jax.random.bernoulli(key, rate, ids.shape[:1])[:, None]
    return jnp.where(drop, empty[0][None], ids), jnp.where(drop, empty[1][None], mask)


def denoising_loss(
    params: Any,
    x0: Array,
    text: Array,
    text_mask: Array | None,
    keys: tuple[Array, Array],
    *,
    dit: DiT,
    levels: LevelMix,
    sigma_draw: LogitNormal,
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics of the denoiser on latents x0 [b, t, h, w, c] and text [b, s, d]; `keys` are the noise's and
    the levels'."""
    b, t, h, w, _ = x0.shape
    sigma, unknown = jax.vmap(lambda k: draw_levels(k, (t, h, w), levels, sigma_draw))(
        jax.random.split(keys[1], b)
    )
    eps = jax.random.normal(keys[0], x0.shape, x0.dtype)
    v: Any = dit.apply(
        {"params": params}, interpolate(x0, eps, sigma), timesteps(sigma, dit.config.patch), text, text_mask
    )
    return flow_loss(v, x0, eps, unknown), {"unknown": jnp.mean(unknown.astype(jnp.float32))}


def dit_loss(
    params: Any,
    batch: dict[str, Array],
    key: Array,
    *,
    dit: DiT,
    text_encoder: TextEncoder,
    empty: tuple[np.ndarray, np.ndarray],
    caption_dropout: float,
    levels: LevelMix,
    sigma_draw: LogitNormal,
    tokens: int,
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics on `latents` [b, t, h, w, c], `ids` [b, s] and `mask` [b, s] of the batch.

    `sigma_draw` is meant for clips of `tokens` = t·h·w latents. n times as many show a scene through √n times as much
    noise (arXiv 2403.03206, section 5.3.2), so others' levels are shifted by that.
    """
    seen = (math.prod(batch["latents"].shape[1:4]) / tokens) ** 0.5
    sigma_draw = dataclasses.replace(sigma_draw, shift=sigma_draw.shift * seen)
    noise_key, level_key, drop_key = jax.random.split(key, 3)
    ids, mask = drop_captions(
        batch["ids"], batch["mask"], drop_key, (jnp.asarray(empty[0]), jnp.asarray(empty[1])), caption_dropout
    )
    text: Any = text_encoder.apply({"params": params["text"]}, ids, mask)
    keys = (noise_key, level_key)
    return denoising_loss(
        params["dit"], batch["latents"], text, mask, keys, dit=dit, levels=levels, sigma_draw=sigma_draw
    )


def latent_encoder(
    vae: VAE, params: Any, mesh: Mesh | None = None, budget: int | None = None
) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 clips [n, t, h, w, 3] to normalised latents [n, t', h', w', c], the mean of q(z|x).

    Clips that don't fit in a device's `budget` (bytes; not given, what is free there) are encoded one at a time, in
    chunks of frames, which gives the same latents; where no chunk of whole frames fits either, in tiles, which gives
    near ones. With `mesh`, where the parameters lie, each of its devices has its share of the clips.
    """
    devices = mesh.size if mesh else 1

    @jax.jit
    def encode(params, video):
        with spread(mesh) if mesh else contextlib.nullcontext():
            moments: Any = vae.apply({"params": params}, to_float(video), method="encode")
            return normalize(moments[0], vae.config)

    def latents(video: np.ndarray) -> np.ndarray:
        short = -len(video) % devices
        clips = np.concatenate([video, np.repeat(video[-1:], short, axis=0)]) if short else video
        t, h, w, _ = vae.config.latent_shape(*clips.shape[1:4])
        free = free_memory() if budget is None else budget
        tiles = plan_tiles(vae.config, len(clips) // devices, (t, h, w), free)
        if tiles is None:
            placed = jax.device_put(clips, batch_sharding(mesh)) if mesh else clips
            return np.asarray(encode(params, placed))[: len(video)]
        rows = (clips[first : first + devices] for first in range(0, len(clips), devices))
        means = [encode_tiled(params, row, vae.config, tiles, vae.dtype, mesh)[0] for row in rows]
        return np.asarray(normalize(jnp.asarray(np.concatenate(means)), vae.config))[: len(video)]

    return latents


def init_params(run: DiTRun, text_length: int) -> dict[str, Any]:
    """New parameters of the denoiser and the text encoder, with their logical axes."""
    shape = run.model.vae.latent_shape(run.data.frames, run.data.height, run.data.width)
    dit_key, text_key = jax.random.split(jax.random.key(run.seed))
    ids, mask = jnp.zeros((1, text_length), jnp.int32), jnp.ones((1, text_length), bool)
    text = jnp.zeros((1, text_length, run.model.text.width))
    return {
        "dit": DiT(run.model.dit).init(dit_key, jnp.zeros((1, *shape)), jnp.zeros((1,)), text, mask)[
            "params"
        ],
        "text": TextEncoder(run.model.text).init(text_key, ids, mask)["params"],
    }


def loss_of(run: DiTRun, empty: tuple[np.ndarray, np.ndarray]) -> LossFn:
    """The loss as the loop calls it; `empty` is (ids [s], mask [s]) of the empty caption."""
    return functools.partial(
        dit_loss,
        dit=DiT(run.model.dit),
        text_encoder=TextEncoder(run.model.text),
        empty=empty,
        caption_dropout=run.caption_dropout,
        levels=run.levels,
        sigma_draw=run.sigma,
        tokens=math.prod(run.model.vae.latent_shape(run.data.frames, run.data.height, run.data.width)[:3]),
    )


def data_of(
    run: DiTRun,
    caches: Sequence[Path],
    source: Source,
    tokenize: Tokenize,
    host: int = 0,
    hosts: int = 1,
) -> grain.DatasetIterator:
    """Batches of the latents in the folders `caches`, the data's own and that of each of the run's sizes, each with a
    caption as tokens: that of the clip in `source` that has the same number."""

    def to_tokens(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        ids, mask = tokenize([example["caption"]])
        return {"latents": example["latents"], "ids": ids[0], "mask": mask[0]}

    return bucketed_batches(
        [LatentSource(cache) for cache in caches],
        batch_size=[run.batch_size, *(size.batch_size for size in run.sizes)],
        weights=[run.own_share, *(size.share for size in run.sizes)],
        seed=run.seed,
        random_maps=[caption_map(source), to_tokens],
        host=host,
        hosts=hosts,
    )


def check_size(model: ModelConfig, data: DataConfig) -> None:
    """Raises ValueError for clips that the latents, or the denoiser's patches of them, don't cover."""
    shape = model.vae.latent_shape(data.frames, data.height, data.width)[:3]
    if any(length % side for length, side in zip(shape, model.dit.patch, strict=True)):
        steps = [model.vae.spatial_factor * side for side in model.dit.patch[1:]]
        raise ValueError(
            f"Clips of {data.frames} frames of {data.width}x{data.height} are latents of {shape}, which don't divide "
            f"into patches of {model.dit.patch}: give a height that is a multiple of {steps[0]} and a width of "
            f"{steps[1]}."
        )


def run_dit(
    run: DiTRun,
    workdir: Path,
    *,
    vae_params: Any,
    vae_fingerprint: str,
    tokenize: Tokenize,
    params: Any = None,
    evaluate: Evaluate | None = None,
    progress: Callable = iter,
) -> TrainState:
    """Encodes the data once, then trains `run.model.dit` and `run.model.text`, from `params` where they are given; goes
    on from the newest checkpoint.

    `run.model.vae` holds the latents' mean and deviation; `vae_fingerprint` ties the cache to the VAE's weights.
    """
    cache = Path(run.latents) if run.latents else workdir / "latents"
    datas = {cache: run.data}
    for size in run.sizes:
        data = size.of(run.data)
        datas[cache / f"{data.frames}x{data.height}x{data.width}"] = data
    for data in datas.values():
        check_size(run.model, data)
    sources = [open_resized(run.data, data) for data in datas.values()]
    for (folder, data), source in zip(datas.items(), sources, strict=True):
        fill(
            folder,
            source,
            encode=latent_encoder(VAE(run.model.vae), vae_params),
            made_from={
                "vae": vae_fingerprint,
                "data": dataclasses.asdict(data),
                "clips": clips_digest(source),
            },
            progress=progress,
            host=jax.process_index(),
            hosts=jax.process_count(),
        )
    # Clips of one number are of one scene in every size, so any source knows the captions of its numbers.
    captioned = max(sources, key=len)

    mesh = make_mesh(run.mesh)
    tx = make_optimizer(run.optimizer, run.steps)
    empty_ids, empty_mask = tokenize([""])

    init = functools.partial(init_params, run, empty_ids.shape[1])
    state, state_shardings = initial_state(init, tx, mesh, params, averaged=run.averaged)
    host, hosts = data_host(mesh)
    return train(
        workdir=workdir,
        config=run,
        resolved=dataclasses.asdict(run),
        mesh=mesh,
        attention=run.mesh.attention,
        state=state,
        state_shardings=state_shardings,
        tx=tx,
        loss_fn=loss_of(run, (empty_ids[0], empty_mask[0])),
        data=data_of(run, list(datas), captioned, tokenize, host, hosts),
        evaluate=evaluate,
    )
