"""Words to clips: text features, noise, the sampler's steps, and the decoder, each a compiled program."""

import contextlib
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion import SAMPLERS, Generation, Guided, PerStep, StepCache, finish, forget
from sora_jax.media import Clip
from sora_jax.models.config import ModelConfig
from sora_jax.models.vae import denormalize, normalize
from sora_jax.models.vae_tiles import Tiles, decode_tiled, encode_tiled
from sora_jax.parallel.context import Method
from sora_jax.studio import precision, programs
from sora_jax.studio.image import Known, Picture, aspect_of, check_pictures, known_of, pixels_of
from sora_jax.studio.memory import SHARE, check_memory, device_memory, held_bytes, plan_tiles
from sora_jax.studio.progress import Report, bar
from sora_jax.studio.prompts import check_words
from sora_jax.studio.request import Request, resolve
from sora_jax.weights import Checkpoint
from sora_jax.weights import load as load_checkpoint
from sora_jax.weights.lora_files import load_loras

__all__ = ["Pipeline", "load"]


def load(
    model: str | Path = "playground",
    *,
    lora: Sequence[Any] = (),
    mesh: jax.sharding.Mesh | None = None,
    dtype: Any = "float32",
    quantize: str | None = None,
    offload: bool | None = None,
    attention: Method = "ulysses_ring",
) -> "Pipeline":
    """The pipeline of a shipped model's name, a checkpoint's folder, or a repository of the hub.

    `lora` are LoRAs as `Pipeline.with_lora` takes them, `mesh` the devices that the parameters are cut over, and, along
    its context axis, a clip's tokens (`sora_jax.parallel.make_mesh`); the other options are `Pipeline`'s.

    Raises ValueError when there is no such model, or its files are cut short or don't fit one another.
    """
    checkpoint = load_checkpoint(model, dtype, mesh)
    if lora:
        dit = load_loras(checkpoint.params["dit"], lora)
        checkpoint = dataclasses.replace(checkpoint, params={**checkpoint.params, "dit": dit})
    return Pipeline(checkpoint, dtype, quantize, offload, mesh and (mesh, attention))


def _world(config: ModelConfig) -> str:
    """What a model of a small world can show, for people whose words it doesn't know."""
    if not config.name.startswith("playground"):
        return ""
    from sora_jax.data.playground.world import COLORS, MOTIONS, SHAPES

    kinds = (("shapes", SHAPES), ("colors", COLORS), ("motions", MOTIONS))
    return "; ".join(f"{kind} ({', '.join(names)})" for kind, names in kinds)


class Pipeline:
    """A model, ready to sample. Each of its methods compiles once a shape.

    Args:
        checkpoint: the networks' parameters and config, and the tokenizer.
        dtype: float32, bfloat16 or float16: of the denoiser's and the text encoder's matrices and their products.
            Norms, modulation, the noise level's embedding and the autoencoder stay in float32.
        quantize: int8 or fp8, of the weights of both networks' blocks (needs the extra `quantize`).
        offload: whether the text encoder's parameters stay on the host and visit the device while they are used;
            not given, where all parameters would fill more than half of the device.
        spread_over: the mesh that the parameters lie on, and how tokens on different devices of its context axis meet.
    """

    def __init__(
        self,
        checkpoint: Checkpoint,
        dtype: Any = jnp.float32,
        quantize: str | None = None,
        offload: bool | None = None,
        spread_over: tuple[jax.sharding.Mesh, Method] | None = None,
    ):
        self.config, self.spread_over = checkpoint.config, spread_over
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

    def with_lora(
        self, *adapters: "str | Path | tuple[str | Path, float]", network: str = "dit"
    ) -> "Pipeline":
        """This model with LoRAs merged into its denoiser; this pipeline stays as it is.

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
        return programs.encode_text(self.params["text"], ids, mask, config=self.config.text, dtype=self.dtype)

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
            latents = programs.encode(self.params["vae"], batch, config=vae, dtype=jnp.float32)
        return latents[0] if pixels.ndim == 4 else latents

    def decode_batch(self, latents: Any) -> np.ndarray:
        """Pixels float32 [b, t, h, w, 3] in [-1, 1] of normalised latents [b, t', h', w', c]."""
        vae = self.config.vae
        if tiles := self._tiles(len(latents), latents.shape[1:]):
            raw = denormalize(jnp.asarray(latents), vae)
            clips = [decode_tiled(self.params["vae"], one[None], vae, tiles) for one in raw]
            return np.clip(np.concatenate(clips), -1, 1)
        return np.asarray(programs.decode(self.params["vae"], latents, config=vae, dtype=jnp.float32))

    def _fused(self) -> bool:
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
        return Clip(self.decode_batch(latents[None])[0], fps or self.config.defaults.fps)

    @overload
    def generate(self, prompt: str, *, variations: None = None, **options: Any) -> Clip: ...
    @overload
    def generate(
        self, prompt: str | Sequence[str], *, variations: int | None = None, **options: Any
    ) -> list[Clip]: ...

    def generate(  # pyright: ignore[reportInconsistentOverload]
        self,
        prompt: str | Sequence[str],
        *,
        seed: int | Sequence[int] = 0,
        variations: int | None = None,
        seconds: float | None = None,
        frames: int | None = None,
        fps: float | None = None,
        size: str | tuple[int, int] | None = None,
        aspect: str | None = None,
        steps: int | None = None,
        guidance: float | Sequence[float] | np.ndarray | None = None,
        guidance_2: float | None = None,
        negative: str | None = None,
        sampler: str | None = None,
        image: Picture | None = None,
        last_image: Picture | None = None,
        latents: Any = None,
        cache: float | str | StepCache | None = None,
        progress: bool | Report = True,
    ) -> Clip | list[Clip]:
        """A clip of a prompt; a list for several prompts, or for `variations` of each, made as one batch.

        Args:
            prompt: what to show. Words that the model never saw are named in a warning.
            seed: of the noise, in [0, 2³²): clip i of the batch has seed + i (or seed[i]), written
                in its metadata; the clip of a prompt and a seed is the same in any batch, but for rounding.
            seconds, frames: how long, one of them; a clip has 1 + k·f frames, seconds are met within a frame.
            fps: frames a second.
            size: (height, width) in pixels or "WIDTHxHEIGHT".
            aspect: "16:9", at about the default's area, in place of size.
            steps: in [1, 1000].
            guidance: one number or one a step (arXiv 2207.12598); 1 is no guidance and half the work.
            guidance_2: that of the expert of low noise, where there are two (Wan 2.2 A14B).
            negative: what to steer away from.
            sampler: unipc, dpmpp, heun or euler.
            image: what the clip starts with: a file, a clip (its first frame), a PIL image or pixels [h, w, 3].
                Without size and aspect the clip has its shape; its middle is cut out to fit.
            last_image: what it ends with, where the model takes one.
            latents: the noise to start from in place of the seed's, [t', h', w', c] for every clip or one for
                each, [b, t', h', w', c].
            cache: leave out steps whose velocity changes by less than this threshold, such as 0.1, by TeaCache's
                rule; "first-block:0.1" is another's, and a `StepCache` says it all.
            progress: a bar on standard error, nothing, or your own function of (steps done, steps in all).

        What isn't given is the model's default. Raises ValueError for what can't be, saying what can.
        """
        single = isinstance(prompt, str)
        prompts: list[str] = [prompt] if isinstance(prompt, str) else list(prompt)
        knows = _world(self.config)
        prompts = [check_words(text, self.tokenizer, knows) for text in prompts]
        check_pictures(self.config, image, last_image)
        pictures = [pixels_of(one) for one in (image, last_image) if one is not None]
        if pictures and size is None and aspect is None:
            aspect = aspect_of(pictures[0])
        request = resolve(
            self.config,
            prompts,
            seed=seed,
            variations=1 if variations is None else variations,
            seconds=seconds,
            frames=frames,
            fps=fps,
            size=size,
            aspect=aspect,
            steps=steps,
            guidance=guidance,
            guidance_2=guidance_2,
            negative=negative,
            sampler=sampler,
            cache=cache,
        )
        check_memory(self.config, request, held_bytes(self.params), self._fused())
        with contextlib.ExitStack() as stack:
            if callable(progress):
                report: Report = progress
            else:
                report = stack.enter_context(bar()) if progress else lambda done, total: None
            clips = self._clips(request, report, latents, pictures)
        return clips[0] if single and variations is None else clips

    def sample(
        self,
        request: Request,
        report: Report = lambda done, total: None,
        noise: Any = None,
        pictures: Sequence[np.ndarray] = (),
    ) -> jax.Array:
        """The latents [b, t', h', w', c] of a resolved request; arguments as of `steps`."""
        for generation in self.steps(request, noise, pictures):
            report(int(generation.step), request.steps)
        return finish(generation)

    def steps(
        self, request: Request, noise: Any = None, pictures: Sequence[np.ndarray] = ()
    ) -> Iterator[Generation]:
        """The generation of a resolved request before its first step and after each.

        It starts from the noise of the seeds or from `noise`; `pictures` are its first, and last, image (uint8).
        """
        config, size = self.config, request.size
        shape = config.vae.latent_shape(size.frames, size.height, size.width)
        if noise is not None:
            noise = _noise_of(noise, (len(request.prompts), *shape))
        sampler = SAMPLERS[request.sampler]
        texts = [*request.prompts, request.negative] if request.guided else list(request.prompts)
        ids, mask = self.tokenizer(texts)
        sigmas = sampler.schedule(request.steps, config.flow_shift)
        known = Known()
        if pictures:
            rows = len(request.prompts)
            known = known_of(config, self.params, list(pictures), size, rows, self.dtype)
        generation, positive, negative = programs.begin(
            self.params["text"],
            ids,
            mask,
            np.asarray(request.seeds, np.uint32),
            np.asarray(sigmas, np.float32),
            known.latents,
            known.unknown,
            noise,
            config=config.text,
            dtype=self.dtype,
            shape=shape,
            sampler=sampler,
            guided=request.guided,
            masked=config.mask_text,
        )
        cond = positive._replace(image=known.tokens, beside=known.beside)
        if request.guided:
            scale = PerStep(np.asarray(request.guidance, np.float32))  # pyright: ignore
            against = negative._replace(image=known.tokens, beside=known.beside)
            cond = Guided(positive=cond, negative=against, scale=scale)  # pyright: ignore
        options: dict[str, Any] = {"config": config.dit, "dtype": self.dtype}
        if request.cache is not None:
            generation = programs.remember(self.params["dit"], generation, cond, request.cache, **options)
        yield generation
        whole = config.whole_timesteps and sampler.whole_timesteps
        # Chosen here and not in the program: both experts fit one program, and one alone is evaluated.
        told = np.floor(1000 * sigmas) / 1000 if whole else sigmas
        experts = [config.expert(sigma) for sigma in told[:-1]]
        for expert, before in zip(experts, [experts[0], *experts], strict=False):
            if expert != before:
                generation = forget(generation)
            generation = programs.advance(
                *(self.params[expert], generation, cond, np.int32(1), request.cache),
                whole=whole,
                spread_over=self.spread_over,
                **options,
            )
            yield jax.block_until_ready(generation)

    def _clips(
        self, request: Request, report: Report, noise: Any, pictures: Sequence[np.ndarray]
    ) -> list[Clip]:
        pixels = self.decode_batch(self.sample(request, report, noise, pictures))
        about: dict[str, Any] = {"model": self.config.name, "software": f"sora_jax {_version()}"}
        if self.dtype != jnp.float32:
            about["dtype"] = self.dtype.name
        if self.quantized:
            about["quantize"] = self.quantized
        if noise is not None:
            about["seed"] = None  # no seed makes it again
        return [
            Clip(frames, request.size.fps, {**request.settings(row), **about})
            for row, frames in enumerate(pixels)
        ]


def _noise_of(latents: Any, shape: tuple[int, ...]) -> np.ndarray:
    noise = np.asarray(latents, np.float32)
    if noise.shape not in (shape, shape[1:]):
        raise ValueError(
            f"latents has shape {noise.shape}: clips of this size start from noise of {shape[1:]}, or of {shape}, "
            "one for each."
        )
    return np.broadcast_to(noise, shape)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sora_jax")
    except PackageNotFoundError:
        return "unknown"
