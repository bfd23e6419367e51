"""The networks of a model, ready to call: words to features, clips to latents and back, latents to their velocity."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding

from sora_jax.media import Clip
from sora_jax.models.vae import denormalize, normalize
from sora_jax.models.vae_tiles import Tiles, decode_tiled, encode_tiled, plan_tiles
from sora_jax.parallel.context import Method
from sora_jax.parallel.memory import SHARE, device_memory
from sora_jax.parallel.mesh import AXES
from sora_jax.studio import precision, programs
from sora_jax.studio.memory import held_bytes
from sora_jax.weights import Checkpoint
from sora_jax.weights.lora_files import load_loras

__all__ = ["Networks"]


class Networks:
    """Each method compiles once a shape.

    Args:
        checkpoint: the networks' parameters and config, and the tokenizer.
        dtype: float32, bfloat16 or float16: of the denoiser's and the text encoder's matrices and their products.
            Norms, modulation, the noise level's embedding and the autoencoder stay in float32.
        quantize: int8 or fp8, of the weights of both networks' blocks (needs the extra `quantize`).
        offload: whether the text encoder's parameters stay on the host and visit the device while they are used;
            not given, where all parameters would fill more than half of the device.
        attention: how tokens meet that lie on different devices of the parameters' mesh.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: Any = jnp.float32,
        quantize: str | None = None,
        offload: bool | None = None,
        attention: Method = "ulysses_ring",
    ):
        self.config = checkpoint.config
        self.tokenizer = checkpoint.tokenizer
        self.dtype, self.quantized = jnp.dtype(dtype), quantize
        params = precision.quantize(checkpoint.params, quantize) if quantize else checkpoint.params
        params = precision.keep_as(params, self.dtype)
        if offload is None:
            total = sum(leaf.nbytes for leaf in jax.tree.leaves(params))
            offload = jax.default_backend() != "cpu" and 2 * total > device_memory()
        self.params = {
            name: jax.tree.map(np.asarray, tree) if offload and name == "text" else jax.device_put(tree)
            for name, tree in params.items()
        }
        places = (getattr(leaf, "sharding", None) for leaf in jax.tree.leaves(self.params["dit"]))
        mesh = next(
            (p.mesh for p in places if isinstance(p, NamedSharding) and p.mesh.axis_names == AXES), None
        )
        mesh = None if mesh is None or mesh.size == 1 else mesh
        self.spread_over = None if mesh is None else (mesh, attention)

    def with_lora(self, *adapters: "str | Path | tuple[str | Path, float]", network: str = "dit") -> Self:
        """This model with LoRAs merged into its denoiser; this one stays as it is.

        Each is a file (or an adapter's folder) as PEFT and diffusers write them, "file:0.8" or (file, 0.8) for another
        weight than 1; `network` is the denoiser's name in `params`. Raises ValueError for a file that is broken or
        made for another network, and where this model's weights are in 8 bits: `load` merges before that.
        """
        if self.quantized:
            raise ValueError(
                "a LoRA can't be merged into weights of 8 bits: load the model with both at once."
            )
        adapted = copy.copy(self)
        changed = load_loras(self.params[network], adapters)
        adapted.params = {**self.params, network: changed}
        return adapted

    def encode_text(self, prompts: Sequence[str]) -> jax.Array:
        """Features float[b, s, d] of the prompts; 0 on the padding after their words. "" is allowed."""
        ids, mask = self.tokenizer(list(prompts))
        return programs.encode_text(
            self.params["text"],
            ids,
            mask,
            config=self.config.text,
            dtype=self.dtype,
            spread_over=self.spread_over,
        )

    def denoise(self, latents: Any, timestep: Any, text: Any, image: Any = None) -> jax.Array:
        """The velocity v = ε - x₀ of noised latents x_σ, of their shape. Of two experts it is that of high noise.

        Args:
            latents: [t, h, w, c] or [b, t, h, w, c], with what an image-to-video network sees beside the noise.
            timestep: 1000·σ, one number or [b], [b, t] or [b, n]; for one clip also [t] or [n].
            text: features as `encode_text` gives them, [s, d] or [b, s, d].
            image: tokens [b, m, e] for a network that takes some.
        """
        x, level, features = jnp.asarray(latents), jnp.asarray(timestep, jnp.float32), jnp.asarray(text)
        single = x.ndim == 4
        x = x[None] if single else x
        features = features[None] if features.ndim == 2 else features
        level = jnp.broadcast_to(level, x.shape[:1]) if level.ndim == 0 else level
        level = level[None] if single and level.ndim == 1 else level
        v = programs.denoise(
            self.params["dit"],
            x,
            level,
            jnp.broadcast_to(features, (x.shape[0], *features.shape[1:])),
            image,
            config=self.config.dit,
            dtype=self.dtype,
            masked=self.config.mask_text,
            spread_over=self.spread_over,
        )
        return v[0] if single else v

    def encode(self, clip: "Clip | np.ndarray") -> jax.Array:
        """Normalised latents [t', h', w', c] of a clip or its pixels [t, h, w, 3]; [b, ...] of [b, t, h, w, 3].

        Raises ValueError for a size that doesn't fit, naming the nearest that does.
        """
        pixels = np.asarray(clip.frames if isinstance(clip, Clip) else clip, np.float32)
        batch = pixels[None] if pixels.ndim == 4 else pixels
        vae = self.config.vae
        if tiles := self._tiles(len(batch), vae.latent_shape(*batch.shape[1:4])):
            means = [encode_tiled(self.params["vae"], one[None], vae, tiles)[0] for one in batch]
            latents = normalize(jnp.asarray(np.concatenate(means)), vae)
        else:
            latents = programs.encode(
                self.params["vae"], batch, config=vae, dtype=jnp.float32, spread_over=self.spread_over
            )
        return latents[0] if pixels.ndim == 4 else latents

    def decode_batch(self, latents: Any) -> np.ndarray:
        """Pixels float32 [b, t, h, w, 3] in [-1, 1] of normalised latents [b, t', h', w', c]."""
        vae = self.config.vae
        if tiles := self._tiles(len(latents), latents.shape[1:]):
            raw = denormalize(jnp.asarray(latents), vae)
            clips = [decode_tiled(self.params["vae"], one[None], vae, tiles) for one in raw]
            return np.clip(np.concatenate(clips), -1, 1)
        return np.asarray(
            programs.decode(
                self.params["vae"], latents, config=vae, dtype=jnp.float32, spread_over=self.spread_over
            )
        )

    def fused(self) -> bool:
        """Whether attention runs in a kernel that keeps its logits off the memory."""
        half = self.dtype in (jnp.bfloat16, jnp.float16)
        width = self.config.dit.head_width
        return jax.default_backend() == "gpu" and half and width % 8 == 0 and width <= 128

    def _tiles(self, clips: int, latent: tuple[int, ...]) -> Tiles | None:
        """How so many clips of latents (t', h', w', c) are coded beside the weights; None is at once."""
        free = int(SHARE * device_memory()) - held_bytes(self.params)
        return plan_tiles(self.config.vae, clips, (latent[0], latent[1], latent[2]), free)

    def decode(self, latents: Any, fps: float | None = None) -> Clip:
        """The clip of normalised latents [t', h', w', c]; fps is the model's default unless given."""
        return Clip(self.decode_batch(latents[None])[0], self.config.defaults.fps if fps is None else fps)
