"""Training the causal 3D VAE: L = w₁·|x - x̂| + w₂·(x - x̂)² + β·KL(q(z|x) ‖ N(0, 1))  (arXiv 1312.6114).

β is tiny, as in latent diffusion (arXiv 2112.10752): it only keeps the latents from growing. Clips are cut to small
windows in space and time, since the network is convolutional.
"""

import dataclasses
import functools
from pathlib import Path
from typing import Any

import grain
import jax
import jax.numpy as jnp

from sora_jax.data.pipeline import batches, crop
from sora_jax.data.sources import DataConfig, open_source
from sora_jax.models.vae import VAE, VAEConfig, to_float
from sora_jax.parallel import MeshConfig, data_host, make_mesh
from sora_jax.train.loop import Evaluate, LoopConfig, train
from sora_jax.train.optimizer import OptimizerConfig, make_optimizer
from sora_jax.train.state import TrainState, initial_state
from sora_jax.train.step import LossFn
from sora_jax.typing import Array


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAELossConfig:
    l1: float = 1.0
    l2: float = 2.0
    kl: float = 1e-6


@dataclasses.dataclass(frozen=True, kw_only=True)
class VAERun(LoopConfig):
    """A training run of a VAE."""

    model: VAEConfig
    start: str | None = None
    """Weights of a VAE to start from: a folder with `vae.safetensors`. Of one with more latent channels than `model`,
    those are kept that show most in the pixels (`sora_jax.models.vae_axes`)."""
    train_encoder: bool = True
    """Whether the encoder is trained too: without it the latents stay what they are."""
    data: DataConfig = DataConfig()
    crop_size: int | None = 32
    """Side of the square windows in pixels; none trains on whole frames."""
    crop_frames: int | None = 9
    loss: VAELossConfig = VAELossConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    mesh: MeshConfig = MeshConfig()

    def __post_init__(self):
        super().__post_init__()
        if self.crop_size and self.crop_size % self.model.spatial_factor:
            raise ValueError(
                f"crop_size {self.crop_size} isn't a multiple of the VAE's spatial factor {self.model.spatial_factor}."
            )
        if self.crop_frames and (self.crop_frames - 1) % self.model.temporal_factor:
            raise ValueError(f"crop_frames {self.crop_frames} isn't 1 + {self.model.temporal_factor}·k.")
        if not self.train_encoder and (self.start is None or self.optimizer.weight_decay):
            raise ValueError(
                "train_encoder is off: name the weights it starts from (start), and set optimizer.weight_decay to 0, "
                "which would shrink the encoder too."
            )


def vae_loss(
    params: Any,
    batch: dict[str, Array],
    key: Array,
    *,
    model: VAE,
    config: VAELossConfig,
    train_encoder: bool = True,
) -> tuple[Array, dict[str, Array]]:
    """Loss and metrics on `batch["video"]`, uint8 [b, t, h, w, 3]."""
    x = to_float(batch["video"])
    moments: Any = model.apply({"params": params}, x, method="encode")
    mean, log_variance = moments if train_encoder else jax.lax.stop_gradient(moments)
    z = mean + jnp.exp(0.5 * log_variance) * jax.random.normal(key, mean.shape, mean.dtype)
    reconstruction: Any = model.apply({"params": params}, z, method="decode")
    error = reconstruction - x
    l1, l2 = jnp.mean(jnp.abs(error)), jnp.mean(jnp.square(error))
    kl = 0.5 * jnp.mean(jnp.square(mean) + jnp.exp(log_variance) - 1.0 - log_variance)
    psnr = 10.0 * jnp.log10(4.0 / l2)
    return config.l1 * l1 + config.l2 * l2 + config.kl * kl, {"l1": l1, "kl": kl, "psnr": psnr}


def window(run: VAERun) -> tuple[int, int, int, int]:
    """Shape (t, h, w, 3) of what the run trains on."""
    data = run.data
    return (run.crop_frames or data.frames, run.crop_size or data.height, run.crop_size or data.width, 3)


def init_params(run: VAERun) -> Any:
    """New parameters, with their logical axes."""
    return VAE(run.model).init(jax.random.key(run.seed), jnp.zeros((1, *window(run))))["params"]


def loss_of(run: VAERun) -> LossFn:
    """The loss as the loop calls it."""
    return functools.partial(vae_loss, model=VAE(run.model), config=run.loss, train_encoder=run.train_encoder)


def data_of(run: VAERun, host: int = 0, hosts: int = 1) -> grain.DatasetIterator:
    """Batches of windows of the run's clips."""
    return batches(
        open_source(run.data),
        batch_size=run.batch_size,
        seed=run.seed,
        random_maps=[crop(run.crop_size, run.crop_frames)],
        host=host,
        hosts=hosts,
    )


def run_vae(run: VAERun, workdir: Path, evaluate: Evaluate | None = None, params: Any = None) -> TrainState:
    """Trains `run.model` in `workdir`, from the newest checkpoint there if there is one, or else from `params`."""
    mesh = make_mesh(run.mesh)
    tx = make_optimizer(run.optimizer, run.steps)
    init = functools.partial(init_params, run)
    state, state_shardings = initial_state(init, tx, mesh, params, averaged=run.averaged)
    host, hosts = data_host(mesh)
    return train(
        workdir=workdir,
        config=run,
        resolved=dataclasses.asdict(run),
        mesh=mesh,
        state=state,
        state_shardings=state_shardings,
        tx=tx,
        loss_fn=loss_of(run),
        data=data_of(run, host, hosts),
        evaluate=evaluate,
    )
