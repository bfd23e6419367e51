"""Words to clips: text features, noise, the sampler's steps, and the decoder, each a compiled program."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion import SAMPLERS, Guided, PerStep, finish
from sora_jax.media import Clip
from sora_jax.models.config import ModelConfig
from sora_jax.studio import programs
from sora_jax.studio.image import Known, Picture, aspect_of, check_pictures, known_of, pixels_of
from sora_jax.studio.progress import Report, bar
from sora_jax.studio.prompts import check_words
from sora_jax.studio.request import Request, check_memory, resolve
from sora_jax.weights import Checkpoint
from sora_jax.weights import load as load_checkpoint

__all__ = ["Pipeline", "load"]


def load(
    model: str | Path = "playground", *, mesh: jax.sharding.Mesh | None = None, dtype: Any = jnp.float32
) -> "Pipeline":
    """The pipeline of a shipped model's name, a checkpoint's folder, or a repository of the hub.

    `mesh` is the devices that the parameters are cut over (`sora_jax.parallel.make_mesh`), `dtype` that of the
    matrices and their products; see `sora_jax.weights.load`.

    Raises ValueError when there is no such model, or its files are cut short or don't fit one another.
    """
    return Pipeline(load_checkpoint(model, dtype, mesh), dtype)


def _world(config: ModelConfig) -> str:
    """What a model of a small world can show, for people whose words it doesn't know."""
    if not config.name.startswith("playground"):
        return ""
    from sora_jax.data.playground.world import COLORS, MOTIONS, SHAPES

    kinds = (("shapes", SHAPES), ("colors", COLORS), ("motions", MOTIONS))
    return "; ".join(f"{kind} ({', '.join(names)})" for kind, names in kinds)


class Pipeline:
    """A model, ready to sample. Its parameters lie on the device; each of its methods compiles once a shape.

    `config` has the networks' sizes and the sampling defaults. `dtype` is that of the matmuls.
    """

    def __init__(self, checkpoint: Checkpoint, dtype: Any = jnp.float32):
        self.config = checkpoint.config
        self.tokenizer = checkpoint.tokenizer
        self.params = jax.device_put(checkpoint.params)
        self.dtype = jnp.dtype(dtype)

    def encode_text(self, prompts: Sequence[str]) -> tuple[jax.Array, np.ndarray]:
        """Features float[b, s, d] of the prompts and bool[b, s], true on their words. "" is allowed."""
        ids, mask = self.tokenizer(list(prompts))
        features = programs.encode_text(
            self.params["text"], ids, mask, config=self.config.text, dtype=self.dtype
        )
        return features, mask

    def denoise(
        self, latents: Any, timestep: Any, text: Any, text_mask: Any = None, image: Any = None
    ) -> jax.Array:
        """The velocity float[b, t, h, w, c] of latents x_σ; timestep is 1000·σ, [b], [b, t] or [b, n].

        `image` are tokens [b, m, e] for a network that takes some. Of two experts it is that of high noise.
        """
        inputs = (latents, timestep, text, text_mask, image)
        return programs.denoise(self.params["dit"], *inputs, config=self.config.dit, dtype=self.dtype)

    def encode(self, clip: "Clip | np.ndarray") -> jax.Array:
        """Normalised latents [t', h', w', c] of a clip, or a batch of them, of pixels [b, t, h, w, 3].

        Raises ValueError for a size that doesn't fit, naming the nearest that does.
        """
        batch = clip.frames[None] if isinstance(clip, Clip) else np.asarray(clip, np.float32)
        self.config.vae.latent_shape(*batch.shape[1:4])
        latents = programs.encode(self.params["vae"], batch, config=self.config.vae, dtype=self.dtype)
        return latents[0] if isinstance(clip, Clip) else latents

    def decode_batch(self, latents: Any) -> np.ndarray:
        """Pixels float32 [b, t, h, w, 3] in [-1, 1] of normalised latents [b, t', h', w', c]."""
        pixels = programs.decode(self.params["vae"], latents, config=self.config.vae, dtype=self.dtype)
        return np.asarray(pixels)

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
            sampler: euler, heun, unipc, ...
            image: what the clip starts with: a file, a clip (its first frame), a PIL image or pixels [h, w, 3].
                Without size and aspect the clip has its shape; its middle is cut out to fit.
            last_image: what it ends with, where the model takes one.
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
        )
        check_memory(self.config, request)
        with contextlib.ExitStack() as stack:
            if callable(progress):
                report: Report = progress
            else:
                report = stack.enter_context(bar()) if progress else lambda done, total: None
            clips = self._clips(request, report, pictures)
        return clips[0] if single and variations is None else clips

    def sample(
        self,
        request: Request,
        report: Report = lambda done, total: None,
        pictures: Sequence[np.ndarray] = (),
    ) -> jax.Array:
        """The latents [b, t', h', w', c] of a resolved request; `pictures`: its first, and last, image (uint8)."""
        config, size = self.config, request.size
        sampler = SAMPLERS[request.sampler]
        texts = [*request.prompts, request.negative] if request.guided else list(request.prompts)
        ids, mask = self.tokenizer(texts)
        sigmas = sampler.schedule(request.steps, config.flow_shift)
        report(0, request.steps)
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
            config=config.text,
            dtype=self.dtype,
            shape=config.vae.latent_shape(size.frames, size.height, size.width),
            sampler=sampler,
            guided=request.guided,
            masked=config.mask_text,
        )
        cond = programs.Told(*positive)._replace(image=known.tokens, beside=known.beside)
        if request.guided:
            scale = PerStep(np.asarray(request.guidance, np.float32))  # pyright: ignore
            against = programs.Told(*negative)._replace(image=known.tokens, beside=known.beside)
            cond = Guided(positive=cond, negative=against, scale=scale)  # pyright: ignore
        for done in range(1, request.steps + 1):
            # Chosen here and not in the program: both experts fit one program, and one alone is evaluated.
            expert = self.params[config.expert(sigmas[done - 1])]
            generation = programs.advance(
                expert, generation, cond, np.int32(1), config=config.dit, dtype=self.dtype
            )
            jax.block_until_ready(generation.step)
            report(done, request.steps)
        return finish(generation)

    def _clips(self, request: Request, report: Report, pictures: Sequence[np.ndarray]) -> list[Clip]:
        pixels = self.decode_batch(self.sample(request, report, pictures))
        about = {"model": self.config.name, "software": f"sora_jax {_version()}"}
        return [
            Clip(frames, request.size.fps, {**request.settings(row), **about})
            for row, frames in enumerate(pixels)
        ]


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("sora_jax")
    except PackageNotFoundError:
        return "unknown"
