"""What `sora_jax.load` gives: a model that makes clips from words and pictures."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion import StepCache, finish
from sora_jax.media import Clip
from sora_jax.models.tokenizer import check_prompt
from sora_jax.parallel.context import Method
from sora_jax.studio import edits, session
from sora_jax.studio.expand import Expand, by_grammar
from sora_jax.studio.given import Given
from sora_jax.studio.image import Picture, aspect_of, check_pictures, known_of, pixels_of
from sora_jax.studio.memory import check_memory, held_bytes
from sora_jax.studio.networks import Networks
from sora_jax.studio.presets import with_presets
from sora_jax.studio.progress import Report, reporting
from sora_jax.studio.prompts import check_words
from sora_jax.studio.request import Request, check_request, resolve, seeds_of
from sora_jax.studio.session import Session
from sora_jax.studio.worded import worded
from sora_jax.weights import load as load_checkpoint
from sora_jax.weights.lora_files import load_loras

__all__ = ["Pipeline", "load"]


def load(
    model: str | Path = "playground",
    *,
    lora: Sequence[Any] = (),
    lora_2: Sequence[Any] = (),
    mesh: jax.sharding.Mesh | None = None,
    dtype: Any = "float32",
    quantize: str | None = None,
    offload: bool | None = None,
    attention: Method = "ulysses_ring",
) -> "Pipeline":
    """The pipeline of a shipped model's name, a checkpoint's folder, or a repository of the hub.

    `lora` are LoRAs as `Pipeline.with_lora` takes them, and `lora_2` those of a second expert (of low noise); `mesh` is
    the devices that the parameters are cut over, and, along its context axis, a clip's tokens
    (`sora_jax.parallel.make_mesh`); the other options are `Pipeline`'s.

    Raises ValueError when there is no such model, or its files are cut short or don't fit one another.
    """
    checkpoint = load_checkpoint(model, dtype, mesh)
    for network, adapters in (("dit", lora), ("dit_2", lora_2)):
        if not adapters:
            continue
        if network not in checkpoint.params:
            raise ValueError(f"{model} has no second expert: give its LoRAs as lora, not lora_2.")
        adapted = load_loras(checkpoint.params[network], adapters)
        checkpoint = dataclasses.replace(checkpoint, params={**checkpoint.params, network: adapted})
    return Pipeline(checkpoint, dtype, quantize, offload, attention)


class Pipeline(Networks):
    """A model, ready to make clips. Each of its methods compiles once a shape."""

    animate = worded(edits.animate)
    blend = worded(edits.blend)
    connect = worded(edits.connect)
    extend = worded(edits.extend)
    inpaint = worded(edits.inpaint)
    loop = worded(edits.loop)
    outpaint = worded(edits.outpaint)
    recut = worded(edits.recut)
    remix = worded(edits.remix)
    storyboard = worded(edits.storyboard)
    stream = worded(edits.stream)

    @property
    def world(self) -> str:
        """What a model of a small world can show, for people whose words it doesn't know; "" of a large one."""
        if not self.config.name.startswith("playground"):
            return ""
        from sora_jax.data.playground.world import COLORS, MOTIONS, SHAPES

        kinds = (("shapes", SHAPES), ("colors", COLORS), ("motions", MOTIONS))
        return "; ".join(f"{kind} ({', '.join(names)})" for kind, names in kinds)

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
        history: float | None = None,
        negative: str | None = None,
        sampler: str | None = None,
        image: Picture | None = None,
        last_image: Picture | None = None,
        latents: Any = None,
        cache: float | str | StepCache | None = None,
        presets: Sequence[str] = (),
        expand: bool | Expand = False,
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
            history: the noise level at which guidance's negative sees the picture: 0, the default, as it is; with 1
                guidance is towards what follows from it, too (arXiv 2502.06764).
            negative: what to steer away from.
            sampler: unipc, dpmpp, heun, euler or ancestral.
            image: what the clip starts with: a file, a clip (its first frame), a PIL image or pixels [h, w, 3].
                Without size and aspect the clip has its shape; its middle is cut out to fit.
            last_image: what it ends with, where the model takes one.
            latents: the noise to start from in place of the seed's, [t', h', w', c] for every clip or one for
                each, [b, t', h', w', c].
            cache: leave out steps whose velocity changes by less than this threshold, such as 0.1, by TeaCache's
                rule; "first-block:0.1" is another's, and a `StepCache` says it all.
            presets: phrases for camera, light and style that are added to the prompt, by their names in
                `studio.presets`.
            expand: a short prompt is made long first: by the playground's grammar and the seed of its first clip, or by
                your own function. What was asked for is in the metadata, too.
            progress: a bar on standard error, nothing, or your own function of (steps done, steps in all).

        What isn't given is the model's default. Raises ValueError for what can't be, saying what can.
        """
        single = isinstance(prompt, str)
        prompts: list[str] = [prompt] if isinstance(prompt, str) else list(prompt)
        asked = prompts
        prompts = [with_presets(check_prompt(text), presets) for text in prompts]
        if expand is True:
            each = 1 if variations is None else variations
            check_request(variations=each)
            seeds = seeds_of(seed, len(prompts) * each)[::each]
            prompts = [by_grammar(text, of) for text, of in zip(prompts, seeds, strict=True)]
        elif expand:
            prompts = [expand(text) for text in prompts]
        prompts = [check_words(text, self.tokenizer, self.world) for text in prompts]
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
            history=history,
            negative=negative,
            sampler=sampler,
            cache=cache,
        )
        check_memory(self.config, request, held_bytes(self.params), self.fused())
        with reporting(progress) as report:
            clips = self.make(request, self.given(request, pictures), latents, report)
        rows = len(clips) // len(asked)
        for row, clip in enumerate(clips):
            if clip.metadata["prompt"] != (words := " ".join(asked[row // rows].split())):
                clip.metadata["asked"] = words
        return clips[0] if single and variations is None else clips

    def given(self, request: Request, pictures: Sequence[np.ndarray] = ()) -> Given:
        """What the first, or first and last, picture (uint8 [h, w, 3]) make known of every clip of the request."""
        if not pictures:
            return Given()
        rows = len(request.prompts)
        return known_of(self.config, self.params, list(pictures), request.size, rows, self.dtype)

    def begin(self, request: Request, given: Given = Given(), noise: Any = None) -> Session:
        """The generation of a resolved request before its first step, as a value: see `studio.session`."""
        noise = None if noise is None else self._noise(noise, request)
        return session.begin(self, request, given, noise)

    def advance(self, generation: Session, steps: int = 1) -> Session:
        """The generation `steps` steps further, or at its end."""
        return session.advance(self, generation, steps)

    def change(self, generation: Session, **changes: Any) -> Session:
        """The generation told something else from its next step on: `prompt`, `negative`, `guidance` or `given`."""
        if (prompt := changes.get("prompt")) is not None:
            one = isinstance(prompt, str)
            words = [check_words(text, self.tokenizer, self.world) for text in ([prompt] if one else prompt)]
            changes["prompt"] = words[0] if one else words
        return session.change(self, generation, **changes)

    def finish(self, generation: Session) -> list[Clip]:
        """The clips of a generation that has done all its steps."""
        pixels = self.decode_batch(finish(generation.generation))
        about = self.about()
        fps = generation.request.size.fps
        return [
            Clip(frames, fps, {**generation.request.settings(row), **about})
            for row, frames in enumerate(pixels)
        ]

    def sample(
        self,
        request: Request,
        given: Given = Given(),
        noise: Any = None,
        report: Report = lambda done, total: None,
    ) -> Session:
        """The generation of a resolved request at its end."""
        generation = self.begin(request, given, noise)
        report(0, generation.steps)
        while generation.step < generation.steps:
            generation = self.advance(generation)
            report(generation.step, generation.steps)
        return generation

    def make(
        self,
        request: Request,
        given: Given = Given(),
        noise: Any = None,
        report: Report = lambda done, total: None,
    ) -> list[Clip]:
        """The clips of a resolved request."""
        clips = self.finish(self.sample(request, given, noise, report))
        if noise is not None:
            clips = [
                dataclasses.replace(clip, metadata={**clip.metadata, "seed": None}) for clip in clips
            ]  # no seed makes it again
        return clips

    def about(self) -> dict[str, Any]:
        """What a clip's metadata says of this model."""
        about: dict[str, Any] = {"model": self.config.name, "software": f"sora_jax {_version()}"}
        if self.dtype != jnp.float32:
            about["dtype"] = self.dtype.name
        if self.quantized:
            about["quantize"] = self.quantized
        return about

    def _noise(self, latents: Any, request: Request) -> np.ndarray:
        size = request.size
        shape = (len(request.prompts), *self.config.vae.latent_shape(size.frames, size.height, size.width))
        return _noise_of(latents, shape)


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
