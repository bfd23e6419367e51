"""Training the denoiser and its text encoder together: L = E |v_θ(x_σ, σ, c) - (ε - x_0)|² over the unknown tokens.

Every latent frame has its own noise level (diffusion forcing, arXiv 2407.01392), known frames have level 0, and the
caption is left out now and then, so that the model can be guided (arXiv 2207.12598). Latents come from a cache.
"""

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import grain
import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.data.latents import LatentSource, fill
from sora_jax.data.pipeline import Source, batches, bucketed_batches
from sora_jax.data.sources import DataConfig, caption_map, open_images, open_source
from sora_jax.diffusion.flow import flow_loss, interpolate
from sora_jax.diffusion.levels import LevelMix, draw_levels
from sora_jax.diffusion.schedule import LogitNormal
from sora_jax.models.config import ModelConfig
from sora_jax.models.dit import DiT, timesteps
from sora_jax.models.text import TextEncoder
from sora_jax.models.vae import VAE, normalize
from sora_jax.parallel import MeshConfig, data_host, make_mesh
from sora_jax.train.loop import Evaluate, LoopConfig, train
from sora_jax.train.optimizer import OptimizerConfig, make_optimizer
from sora_jax.train.state import TrainState, initial_state, state_from
from sora_jax.train.step import LossFn
from sora_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class Images:
    """Steps on images between those on clips (arXiv 2204.03458): what things look like is learnt from many more
    captions for the same tokens. A run may be resumed with another share; then other examples come next."""

    share: float = 0.0
    """Of the steps, so many are on images."""
    per_clip: int = 5
    """Images that take a clip's place in the batch: as many as a clip has latent frames make as many tokens."""
    count: int = 128_000
    """How many images of playground scenes there are; a dataset on disk has one for each clip."""

    def __post_init__(self):
        if not 0 <= self.share < 1 or self.per_clip < 1 or self.count < 1:
            raise ValueError("images: share lies in [0, 1), and per_clip and count are at least 1.")


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
    images: Images = Images()
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
    frames: int,
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics on `latents` [b, t, h, w, c], `ids` [b, s] and `mask` [b, s] of the batch.

    `sigma_draw` is meant for clips of `frames` latent frames. n times as many tokens show a scene through √n times as
    much noise (arXiv 2403.03206, section 5.3.2), so others' levels are shifted by that.
    """
    seen = (batch["latents"].shape[1] / frames) ** 0.5
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


def latent_encoder(vae: VAE, params: Any) -> Callable[[np.ndarray], np.ndarray]:
    """uint8 clips [n, t, h, w, 3] to normalised latents [n, t', h', w', c], the mean of q(z|x)."""

    @jax.jit
    def encode(params, video):
        moments: Any = vae.apply({"params": params}, video.astype(jnp.float32) / 127.5 - 1.0, method="encode")
        return normalize(moments[0], vae.config)

    return lambda video: np.asarray(encode(params, video))


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
        frames=run.model.vae.latent_shape(run.data.frames, run.data.height, run.data.width)[0],
    )


def data_of(
    run: DiTRun, cache: Path, source: Source, tokenize: Tokenize, host: int = 0, hosts: int = 1
) -> grain.DatasetIterator:
    """Batches of the latents in the folder `cache`, each with a caption of its clip in `source` as tokens.

    Where the run has images, their latents are in the folder's `images`.
    """

    def to_tokens(example: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        ids, mask = tokenize([example["caption"]])
        return {"latents": example["latents"], "ids": ids[0], "mask": mask[0]}

    clips, hosts_are = LatentSource(cache), {"host": host, "hosts": hosts}
    if not run.images.share:
        maps = [caption_map(source), to_tokens]
        return batches(clips, batch_size=run.batch_size, seed=run.seed, random_maps=maps, **hosts_are)
    # An image and a clip of one number are of one scene, so either source knows the captions of its numbers.
    captioned = max(source, open_images(run.data, run.images.count), key=len)
    return bucketed_batches(
        [clips, LatentSource(cache / "images")],
        batch_size=[run.batch_size, run.batch_size * run.images.per_clip],
        weights=[1 - run.images.share, run.images.share],
        seed=run.seed,
        random_maps=[caption_map(captioned), to_tokens],
        **hosts_are,
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
    source = open_source(run.data)
    cache = Path(run.latents) if run.latents else workdir / "latents"
    made_from = {"vae": vae_fingerprint, "data": dataclasses.asdict(run.data)}
    filled = functools.partial(
        fill,
        encode=latent_encoder(VAE(run.model.vae), vae_params),
        made_from=made_from,
        progress=progress,
        host=jax.process_index(),
        hosts=jax.process_count(),
    )
    filled(cache, source)
    if run.images.share:
        filled(cache / "images", open_images(run.data, run.images.count))

    mesh = make_mesh(run.mesh)
    tx = make_optimizer(run.optimizer, run.steps)
    empty_ids, empty_mask = tokenize([""])

    init = functools.partial(init_params, run, empty_ids.shape[1])
    state, state_shardings = (
        initial_state(init, tx, mesh) if params is None else state_from(params, init, tx, mesh)
    )
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
        data=data_of(run, cache, source, tokenize, host, hosts),
        evaluate=evaluate,
    )
