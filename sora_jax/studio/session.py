"""A generation in progress as a value: begin -> advance* -> its latents; between steps it is changed, forked, saved.

A session holds arrays and settings and no network. Every function here gives a new one and leaves the old as it was,
so that keeping two is a fork. The same inputs give the same bits, whatever happened between the steps.
"""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from sora_jax.diffusion import (
    SAMPLERS,
    Generation,
    Guided,
    Mixed,
    PerStep,
    forget,
    remask,
    saved,
    scaled,
    step_cache,
)
from sora_jax.studio import programs
from sora_jax.studio.given import Given, check_known
from sora_jax.studio.networks import Networks
from sora_jax.studio.programs import Told
from sora_jax.studio.request import Request, check_request
from sora_jax.studio.size import ClipSize

__all__ = ["Session", "advance", "begin", "change", "restore", "save"]

ALONE = ("steps", "history", "negative", "sampler")
"""Settings of a request that are one number or word, which a file holds as they are."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Session:
    """A batch of clips on its way."""

    request: Request
    given: Given
    generation: Generation
    told: Any
    """What the denoiser is told, as `programs.advance` takes it."""

    @property
    def step(self) -> int:
        """Steps done."""
        return int(self.generation.step)

    @property
    def steps(self) -> int:
        """Steps in all."""
        return self.generation.steps

    @property
    def latents(self) -> jax.Array:
        """[b, t', h', w', c] as they are now, noised until the last step."""
        return self.generation.x


def begin(networks: Networks, request: Request, given: Given = Given(), noise: Any = None) -> Session:
    """The session before its first step; it starts from the noise of the seeds or from `noise` [b, t', h', w', c]."""
    config, size = networks.config, request.size
    sampler = SAMPLERS[request.sampler]
    sigmas = sampler.schedule(request.steps, config.flow_shift)
    if given.levels is not None:
        sigmas = given.levels
    elif given.strength is not None:
        sigmas = scaled(sigmas, given.strength, config.flow_shift)
    shape = config.vae.latent_shape(size.frames, size.height, size.width)
    # A level for each frame, whether they differ or not, and a mask: so one program serves all that can be given.
    sigmas = np.broadcast_to(sigmas.reshape(len(sigmas), -1), (len(sigmas), shape[0]))
    generation = programs.begin(
        np.asarray(request.seeds, np.uint32),
        np.asarray(sigmas, np.float32),
        given.latents,
        given.unknown,
        given.source,
        noise,
        shape=shape,
        sampler=sampler,
        spread_over=networks.spread_over,
    )
    told = _told(networks, request, given)
    if request.cache is not None:
        generation = programs.remember(
            networks.params["dit"], generation, told, request.cache, config=config.dit, dtype=networks.dtype
        )
    return Session(request=request, given=given, generation=generation, told=told)


def _told(networks: Networks, request: Request, given: Given) -> Any:
    prompts, against = request.latest
    scripts = given.scripts or (prompts,)
    texts = [text for script in scripts for text in script]
    ids, mask = networks.tokenizer([*texts, against] if request.guided else texts)
    features = programs.encode_text(
        networks.params["text"],
        ids,
        mask,
        config=networks.config.text,
        dtype=networks.dtype,
        spread_over=networks.spread_over,
    )
    seen = jnp.asarray(mask) if networks.config.mask_text else None

    def told(rows: slice) -> Told:
        return Told(features[rows], None if seen is None else seen[rows], given.tokens, given.beside)

    b = len(request.prompts)
    parts = [told(slice(b * k, b * (k + 1))) for k in range(len(scripts))]
    told_all: Any = parts[0]
    if given.scripts:
        weights = jnp.asarray(given.weights, jnp.float32)
        told_all = Mixed(parts=jax.tree.map(lambda *leaves: jnp.stack(leaves), *parts), weights=weights)
    if not request.guided:
        return told_all
    scale = PerStep(np.asarray(request.guidance, np.float32))  # pyright: ignore[reportArgumentType]
    negative = told(slice(len(texts), None))
    negative = jax.tree.map(lambda a: jnp.broadcast_to(a, (b, *a.shape[1:])), negative)
    history = jnp.float32(request.history)
    return Guided(positive=told_all, negative=negative, scale=scale, history=history)  # pyright: ignore


def advance(networks: Networks, session: Session, steps: int = 1) -> Session:
    """`steps` steps further, or as many as are left."""
    config, request, generation = networks.config, session.request, session.generation
    levels = np.asarray(generation.sigmas).reshape(generation.steps + 1, -1).max(axis=1)
    whole = config.whole_timesteps and SAMPLERS[request.sampler].whole_timesteps
    # Chosen here and not in the program: both experts fit one program, and one alone is evaluated.
    experts = [config.expert(sigma) for sigma in (np.floor(1000 * levels) / 1000 if whole else levels)]
    for step in range(session.step, min(session.step + steps, generation.steps)):
        if step and experts[step] != experts[step - 1]:
            generation = forget(generation)
        generation = programs.advance(
            networks.params[experts[step]],
            generation,
            session.told,
            np.int32(1),
            request.cache,
            config=config.dit,
            dtype=networks.dtype,
            whole=whole,
            spread_over=networks.spread_over,
        )
    return dataclasses.replace(session, generation=jax.block_until_ready(generation))


def change(
    networks: Networks,
    session: Session,
    *,
    prompt: str | Sequence[str] | None = None,
    negative: str | None = None,
    guidance: float | None = None,
    given: Given | None = None,
) -> Session:
    """The session told something else from its next step on; what isn't given stays.

    `prompt` is one for all clips or one for each, and `given` changes what is known: tokens that its `unknown` frees
    are noised to the level of this step. Each change is written in the clips' metadata.
    """
    check_request(guidance=guidance)
    request, step, known = session.request, session.step, session.given
    generation = forget(session.generation)
    changes: dict[str, Any] = {"step": step}
    if prompt is not None:
        changes["prompts"] = [prompt] * len(request.prompts) if isinstance(prompt, str) else list(prompt)
        if len(changes["prompts"]) != len(request.prompts):
            raise ValueError(
                f"{len(prompt)} prompts for {len(request.prompts)} clips: give one, or one for each."
            )
        known = dataclasses.replace(known, scripts=(), weights=None)
    if negative is not None:
        changes["negative"] = negative
    if guidance is not None:
        changes["guidance"] = guidance
        curve = (*request.guidance[:step], *(guidance,) * (request.steps - step))
        request = dataclasses.replace(request, guidance=curve)
    if given is not None:
        if given.unknown is None:
            raise ValueError("what is known changes by a mask: give one that says which latents are unknown.")
        if not np.all(given.unknown):
            check_known(networks.config)
        generation = remask(generation, jnp.asarray(given.unknown), given.latents)
        beside = known.beside if given.beside is None else given.beside
        tokens = known.tokens if given.tokens is None else given.tokens
        kept = {"scripts": known.scripts, "weights": known.weights, "beside": beside, "tokens": tokens}
        known = dataclasses.replace(given, **kept)
        changes["mask"] = True
    request = dataclasses.replace(request, changes=(*request.changes, changes))
    told = _told(networks, request, known)
    return Session(request=request, given=known, generation=generation, told=told)


def save(path: str | Path, session: Session, model: str) -> Path:
    """Writes the session to a file that `restore` goes on from, whole or not at all; `model` is its networks' name."""
    request = session.request
    about = {
        "model": model,
        "request": {
            **{name: getattr(request, name) for name in ("prompts", "seeds", "guidance", *ALONE)},
            "changes": request.changes,
            "size": dataclasses.asdict(request.size),
            "cache": request.cache_setting,
        },
        "scripts": session.given.scripts,
    }
    arrays = {name: getattr(session.given, name) for name in ("weights", "beside", "tokens")}
    arrays = {name: np.asarray(array) for name, array in arrays.items() if array is not None}
    saved.save(path, session.generation, about, arrays)
    return Path(path)


def restore(networks: Networks, path: str | Path) -> Session:
    """The session that `save` wrote. Raises ValueError for a broken file, or one of another model."""
    generation, about, arrays = saved.restore(path)
    if about.get("model") != networks.config.name:
        raise ValueError(
            f"{path} is a generation of {about.get('model')!r} and this model is {networks.config.name!r}: "
            "load the model that began it."
        )
    try:
        held = about["request"]
        request = Request(
            **{name: tuple(held[name]) for name in ("prompts", "seeds", "guidance", "changes")},
            **{name: held[name] for name in ALONE},
            size=ClipSize(**held["size"]),
            cache=None if held["cache"] is None else step_cache(held["cache"]),
        )
    except (LookupError, TypeError) as error:
        raise ValueError(f"{path} holds a generation and no session ({error!r}): save it again.") from None
    parts: dict[str, Any] = {name: arrays[name] for name in ("weights", "beside", "tokens") if name in arrays}
    given = Given(scripts=tuple(tuple(script) for script in about["scripts"]), **parts)
    return Session(request=request, given=given, generation=generation, told=_told(networks, request, given))
