"""A published checkpoint run here and by diffusers on the same inputs, in float32: how far apart the two come out.

    error = max |ours - theirs| / max |theirs|

First every network alone on inputs of its own, then a whole generation from one noise with the folder's scheduler.
"""

import dataclasses
import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image

from sora_jax.models.dit import timesteps
from sora_jax.models.image import prepare
from sora_jax.studio import programs
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import Request, resolve
from sora_jax.weights import diffusers_modules, load
from sora_jax.weights.diffusers_folder import FOLDERS, INDEX, read_json

__all__ = ["CLIP_BOUND", "NETWORK_BOUND", "Figure", "compare", "published", "relative_error"]

NETWORK_BOUND = 1e-4
CLIP_BOUND = 1e-3
FAMILIES = ("WanPipeline", "WanImageToVideoPipeline")
"""Pipelines of diffusers that are compared."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figure:
    """One stage's error, and the bound that it must keep."""

    stage: str
    error: float
    bound: float

    @property
    def kept(self) -> bool:
        return self.error <= self.bound


def relative_error(ours: Any, theirs: Any) -> float:
    """max |ours - theirs| / max |theirs|; infinite where the shapes differ or a number isn't finite."""
    ours, theirs = np.asarray(ours, np.float64), np.asarray(theirs, np.float64)
    if ours.shape != theirs.shape:
        return float("inf")
    error = np.abs(ours - theirs).max() / max(np.abs(theirs).max(), np.finfo(np.float64).tiny)
    return float(error) if np.isfinite(error) else float("inf")


def published(folder: Path) -> Any:
    """diffusers' own pipeline of a folder, in float32.

    Raises ValueError where Torch is missing, the folder is of no family that is compared, or it brings Torch code
    other than what `save_diffusers` writes.
    """
    family = read_json(folder / INDEX).get("_class_name")
    if family not in FAMILIES:
        raise ValueError(f"{folder} is diffusers' {family}: what is compared is {', '.join(FAMILIES)}.")
    brings_code = _brings_our_code(folder)
    # Torch first: without it the other two can be imported, and lack what is needed.
    for module in ("torch", "diffusers", "transformers"):
        try:
            importlib.import_module(module)
        except ImportError as error:
            raise ValueError(
                f"comparing with diffusers needs {module}: pip install 'sora_jax[parity]'."
            ) from error
    import diffusers
    import torch

    pipeline = getattr(diffusers, family).from_pretrained(
        folder,
        torch_dtype=torch.float32,
        local_files_only=True,
        use_safetensors=True,
        trust_remote_code=brings_code,
    )
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _brings_our_code(folder: Path) -> bool:
    """Whether Torch modules lie where diffusers looks for them; ValueError for one that isn't as we write it."""
    named = {
        part: value[0]
        for part, value in read_json(folder / INDEX).items()
        if isinstance(value, list) and value
    }
    found = [(library, folder / part / f"{library}.py") for part, library in named.items()]
    found = [(library, path) for library, path in found if path.is_file()]
    for library, path in found:
        ours = diffusers_modules.source(library) if library in diffusers_modules.MODULES.values() else b""
        if path.stat().st_size != len(ours) or path.read_bytes() != ours:
            raise ValueError(
                f"{path} is code, and not what this version of sora_jax writes there: it isn't run. Write the folder "
                "anew with sora-jax convert --format diffusers."
            )
    return bool(found)


def _to_torch(x: Any) -> Any:
    """[b, t, h, w, c] as Torch's [b, c, t, h, w]."""
    import torch

    return torch.from_numpy(np.ascontiguousarray(np.moveaxis(np.asarray(x, np.float32), -1, 1)))


def _from_torch(x: Any) -> np.ndarray:
    return np.moveaxis(x.detach().float().numpy(), 1, -1)


class Both:
    """One folder, loaded by us and by diffusers: each method runs a stage on both and gives (ours, theirs)."""

    def __init__(self, folder: Path):
        self.theirs = published(folder)
        self.ours = Pipeline(load(folder))
        vae = self.ours.config.vae
        self._mean = np.asarray(vae.latent_mean, np.float32)
        self._std = np.asarray(vae.latent_std, np.float32)

    def tokens(self, prompts: list[str]) -> float:
        """The part of the tokens that differ."""
        ours, mask = self.ours.tokenizer(prompts)
        theirs = self.theirs.tokenizer(
            prompts, padding="max_length", max_length=ours.shape[1], truncation=True, return_tensors="np"
        )
        differ = (ours != theirs["input_ids"]) | (mask != (theirs["attention_mask"] > 0))
        return float(differ.sum() / mask.sum())

    def text(self, prompts: list[str]) -> tuple[Any, Any]:
        length = self.ours.config.text.max_length
        theirs, _ = self.theirs.encode_prompt(
            prompts, do_classifier_free_guidance=False, max_sequence_length=length
        )
        return self.ours.encode_text(prompts), theirs.numpy()

    def image(self, pictures: list[np.ndarray]) -> tuple[Any, Any]:
        """Tokens [p, m, e] of p pictures (uint8)."""
        config = self.ours.config.image
        assert config is not None, "asked of models with an image encoder"
        shown = np.stack([prepare(picture, config) for picture in pictures])
        ours = programs.encode_image(self.ours.params["image"], shown, config=config, dtype=jnp.float32)
        return ours, self.theirs.encode_image(list(pictures)).numpy()

    def velocity(
        self, name: str, x: np.ndarray, sigma: np.ndarray, text: np.ndarray, image: np.ndarray | None
    ) -> tuple[Any, Any]:
        """Of the denoiser `name`, for x [t, h, w, c] with what lies beside the noise, and pictures' tokens [p, m, e].

        sigma: [t, h, w] of the clip where the network takes a level a token, else one number.
        """
        import torch

        config = self.ours.config
        level = 1000 * sigma[None]
        if sigma.ndim:
            level = np.asarray(timesteps(jnp.asarray(sigma[None]), config.dit.patch))
        ours = programs.denoise(
            self.ours.params[name],
            x[None],
            level,
            text,
            None if image is None else image.reshape(1, -1, image.shape[-1]),
            config=config.dit,
            dtype=jnp.float32,
            masked=config.mask_text,
        )
        theirs = getattr(self.theirs, FOLDERS[name])(
            hidden_states=_to_torch(x[None]),
            timestep=torch.from_numpy(np.array(level, np.float32)),
            encoder_hidden_states=torch.from_numpy(np.array(text, np.float32)),
            encoder_hidden_states_image=None if image is None else torch.from_numpy(np.array(image)),
            return_dict=False,
        )[0]
        return ours[0], _from_torch(theirs)[0]

    def encode(self, pixels: np.ndarray) -> tuple[Any, Any]:
        mean = _from_torch(self.theirs.vae.encode(_to_torch(pixels[None])).latent_dist.mode())
        return self.ours.encode(pixels), (mean[0] - self._mean) / self._std

    def decode(self, ours: Any, theirs: Any) -> tuple[Any, Any]:
        """The two sides' own latents [t, h, w, c]."""
        raw = _to_torch((theirs * self._std + self._mean)[None])
        pixels = self.theirs.vae.decode(raw, return_dict=False)[0]
        return self.ours.decode(ours).frames, _from_torch(pixels)[0]

    def generate(self, request: Request, noise: np.ndarray, pictures: list[np.ndarray]) -> tuple[Any, Any]:
        size = request.size
        images = map(Image.fromarray, pictures)
        experts = self.ours.config.boundary_ratio is not None
        theirs = self.theirs(
            **dict(zip(("image", "last_image"), images, strict=False)),
            prompt=list(request.prompts),
            negative_prompt=request.negative,
            height=size.height,
            width=size.width,
            num_frames=size.frames,
            num_inference_steps=request.steps,
            guidance_scale=request.guidance[0],
            guidance_scale_2=request.guidance[-1] if experts else None,
            latents=_to_torch(noise[None]),
            max_sequence_length=self.ours.config.text.max_length,
            output_type="latent",
            return_dict=False,
        )[0]
        return self.ours.sample(request, self.ours.given(request, pictures), noise).latents[0], _from_torch(
            theirs
        )[0]


def _small(config: Any) -> dict[str, Any]:
    """A clip of 4 x 4 tokens and three latent frames."""
    side = 4 * config.vae.spatial_factor
    return {
        "size": (side * config.dit.patch[1], side * config.dit.patch[2]),
        "frames": 1 + 2 * config.vae.temporal_factor,
    }


def _pictures(config: Any, rng: np.random.Generator, height: int, width: int) -> list[np.ndarray]:
    """As many as the denoiser needs, uint8 of the clip's size, so that neither side scales them for it."""
    count = 2 if config.dit.image_positions else int(config.needs_image)
    return [rng.integers(0, 256, (height, width, 3), np.uint8) for _ in range(count)]


def compare(
    folder: str | Path,
    *,
    prompt: str = "a red circle moves right",
    steps: int = 10,
    negative: str | None = None,
    seed: int = 0,
    size: str | tuple[int, int] | None = None,
    frames: int | None = None,
) -> Iterator[Figure]:
    """The figures of each stage, as they are measured. What isn't given is a clip of a few tokens.

    Raises ValueError for a folder that can't be compared, or a size that doesn't fit.
    """
    both = Both(Path(folder))
    import torch

    config = both.ours.config
    small = _small(config)
    request = resolve(
        config,
        [prompt],
        seed=seed,
        steps=steps,
        negative=negative,
        size=size or small["size"],
        frames=frames or small["frames"],
    )
    shape = config.vae.latent_shape(request.size.frames, request.size.height, request.size.width)
    rng = np.random.default_rng(seed)
    pixels = np.tanh(
        rng.standard_normal((request.size.frames, request.size.height, request.size.width, 3), np.float32)
    )
    latents, noise = rng.standard_normal((2, *shape), np.float32)
    x = rng.standard_normal((*shape[:3], config.dit.in_channels), np.float32)
    pictures = _pictures(config, rng, request.size.height, request.size.width)
    per_token = bool(both.theirs.config.get("expand_timesteps"))
    sigma = rng.uniform(0.05, 1, shape[:3] if per_token else ()).astype(np.float32)

    with torch.no_grad(), jax.default_matmul_precision("highest"):
        texts = [prompt, request.negative]
        yield Figure(stage="tokens", error=both.tokens(texts), bound=0.0)
        text = both.text(texts)
        yield Figure(stage="text encoder", error=relative_error(*text), bound=NETWORK_BOUND)
        tokens = (None, None)
        if config.image is not None:
            tokens = both.image(pictures)
            yield Figure(stage="image encoder", error=relative_error(*tokens), bound=NETWORK_BOUND)
        for name in ("dit", "dit_2"):
            if name in both.ours.params:
                velocity = both.velocity(name, x, np.asarray(sigma), text[1][:1], tokens[1])
                stage = FOLDERS[name]
                yield Figure(stage=stage, error=relative_error(*velocity), bound=NETWORK_BOUND)
        yield Figure(stage="VAE encoder", error=relative_error(*both.encode(pixels)), bound=NETWORK_BOUND)
        yield Figure(
            stage="VAE decoder", error=relative_error(*both.decode(latents, latents)), bound=NETWORK_BOUND
        )
        made = both.generate(request, noise, pictures)
        stage = f"latents after {steps} steps"
        yield Figure(stage=stage, error=relative_error(*made), bound=CLIP_BOUND)
        yield Figure(stage="decoded clip", error=relative_error(*both.decode(*made)), bound=CLIP_BOUND)
