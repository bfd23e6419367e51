"""An experiment file to a finished run: what a run is shown with while it trains, and what it leaves behind.

Every run leaves `weights/` in its folder, made anew at each sheet of samples: a VAE's run `vae.safetensors` and
`vae.json`, a denoiser's run a whole model that `sora-jax generate --model` takes, a LoRA's run an adapter for `--lora`.
"""

import dataclasses
import functools
import hashlib
import importlib.util
import itertools
import json
import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from sora_jax.data.clips import Prepared
from sora_jax.data.sources import DataConfig, caption_map, kept_apart, open_source
from sora_jax.media import Clip, contact_sheet, psnr
from sora_jax.models.config import ModelConfig, from_json, vae_from_json
from sora_jax.models.dit_axes import latent_maps, turned
from sora_jax.models.lora import LoRAConfig, apply_lora
from sora_jax.models.tokenizer import Tokenizer, train_tokenizer
from sora_jax.models.vae import VAE, VAEConfig, to_float
from sora_jax.models.vae_axes import reduce_latents
from sora_jax.train.checkpoint import sampled_params
from sora_jax.train.dit import DiTRun, latent_encoder, run_dit
from sora_jax.train.finetune import FineTuneRun, lora_init, prepare_clips, run_finetune
from sora_jax.train.state import TrainState
from sora_jax.train.vae import VAERun, run_vae
from sora_jax.weights import Checkpoint, TensorFile, find, load, save, save_lora, write_files, write_tensors
from sora_jax.weights.fingerprint import fingerprint
from sora_jax.weights.lora_files import FILE_NAMES, written_names

SHOWN = 8
MEASURED = 64
FRESH = 2**31  # scenes from here on are in no training run


Experiment = VAERun | DiTRun | FineTuneRun


def load_experiment(path: Path) -> Experiment:
    """The `EXPERIMENT` of a Python file. ValueError if there is no such file or it names no experiment."""
    if not path.is_file():
        raise ValueError(
            f"there is no experiment file {path}: give one such as experiments/train/playground_dit.py."
        )
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    experiment = getattr(module, "EXPERIMENT", None)
    if not isinstance(experiment, Experiment):
        raise ValueError(
            f"{path} names no training run: it must set EXPERIMENT to a VAERun, a DiTRun or a FineTuneRun."
        )
    return experiment


def run(experiment: Experiment, workdir: Path) -> TrainState:
    """Trains, from the newest checkpoint in `workdir` if there is one, with sheets and weights along the way."""
    workdir.mkdir(parents=True, exist_ok=True)
    if isinstance(experiment, VAERun):
        experiment, params = _started(experiment, workdir)
        clips, unseen = clips_to_show(experiment.data)
        show = functools.partial(show_vae, experiment, workdir, clips, "unseen" if unseen else "seen")
        return run_vae(experiment, workdir, show, params)
    if isinstance(experiment, FineTuneRun):
        return _run_finetune(experiment, workdir)
    return _run_dit(experiment, workdir)


def _started(experiment: VAERun, workdir: Path) -> tuple[VAERun, Any]:
    """The run with its latents' scale and the parameters that it starts from, which are kept in `workdir/start`."""
    if experiment.start is None:
        return experiment, None
    folder, sizes = workdir / "start", {"latent_mean": (), "latent_std": ()}
    kept = (folder / "vae.json").exists()
    config, params, _ = load_vae(str(folder) if kept else experiment.start)
    if not kept and experiment.model.latent_channels < config.latent_channels:
        source = open_source(experiment.data)
        clips = np.stack([source[i]["video"] for i in range(min(MEASURED, len(source)))])
        params, config = reduce_latents(
            params, config, clips.astype(np.float32) / 127.5 - 1, experiment.model.latent_channels
        )
    if dataclasses.replace(config, **sizes) != dataclasses.replace(experiment.model, **sizes):
        raise ValueError(
            f"{experiment.start} holds a VAE of other sizes than the run's model: only latent_channels may "
            "differ, and be fewer."
        )
    if not kept and jax.process_index() == 0:  # every process of a run finds the same
        _write_vae(folder, params, config)
    return dataclasses.replace(experiment, model=config), params


def _write_vae(folder: Path, params: Any, config: VAEConfig) -> None:
    write_files(
        folder,
        {
            "vae.safetensors": functools.partial(write_tensors, params=params, dtype=np.float32),
            "vae.json": lambda path: path.write_text(json.dumps(dataclasses.asdict(config), indent=2) + "\n"),
        },
    )


def clips_to_show(config: DataConfig) -> tuple[list[np.ndarray], bool]:
    """A few uint8 clips, and whether the run doesn't train on them: new scenes, or the dataset's test split; of a
    dataset without one, clips that it does train on, which is said."""
    if config.path is None:
        source = open_source(dataclasses.replace(config, count=FRESH + MEASURED, keep_in_memory=False))
        return [source[i]["video"] for i in range(FRESH, FRESH + MEASURED)], True
    apart = kept_apart(config)
    if apart is None:
        print(
            f"{config.path} keeps no clips apart (`sora-jax data folder --test-fraction 0.1` does): sheets and figures "
            "are of clips that the run trains on.",
            file=sys.stderr,
        )
    source = open_source(apart or dataclasses.replace(config, keep_in_memory=False))
    return [source[i]["video"] for i in range(min(MEASURED, len(source)))], apart is not None


@functools.partial(jax.jit, static_argnames="config")
def reconstruct(params: Any, video: Any, config: VAEConfig) -> tuple[jax.Array, jax.Array]:
    """uint8 clips [b, t, h, w, 3] encoded and decoded again, in [-1, 1], and their latents' mean."""
    out: Any = VAE(config).apply({"params": params}, to_float(video))
    reconstruction, mean, _ = out
    return jnp.clip(reconstruction, -1.0, 1.0), mean


def show_vae(
    experiment: VAERun, workdir: Path, clips: list[np.ndarray], kind: str, state: TrainState, step: int
) -> dict[str, float]:
    """PSNR on whole clips, which are of the `kind` unseen or seen, a sheet of them above their reconstructions, and the
    weights."""
    rows, figures, means = [], [], []
    for clip in clips:
        reconstruction, mean = jax.device_get(reconstruct(state.sampled, clip[None], experiment.model))
        means.append(mean.reshape(-1, mean.shape[-1]))
        original = clip.astype(np.float32) / 127.5 - 1
        figures.append(psnr(original, reconstruction[0]))
        if len(rows) < 2 * SHOWN:
            rows += [Clip(original, experiment.data.fps), Clip(reconstruction[0], experiment.data.fps)]
    labels = [text for figure in figures[:SHOWN] for text in ("clip", f"reconstruction, {figure:.1f} dB")]
    sheet = workdir / "sheets" / f"step-{step:06d}.png"
    sheet.parent.mkdir(exist_ok=True)
    contact_sheet(rows, labels, path=sheet)
    config = experiment.model
    if experiment.train_encoder:
        latents = np.concatenate(means)
        config = dataclasses.replace(
            config,
            latent_mean=tuple(round(float(m), 6) for m in latents.mean(axis=0)),
            latent_std=tuple(round(float(s), 6) for s in latents.std(axis=0)),
        )
    _write_vae(workdir / "weights", jax.device_get(state.sampled), config)
    return {f"{kind}_psnr": float(np.mean(figures)), f"{kind}_psnr_lowest": float(np.min(figures))}


def load_vae(where: str) -> tuple[VAEConfig, Any, str]:
    """Config, parameters and fingerprint of the VAE in a folder: a VAE run's `weights`, or a whole model's."""
    folder = find(where)
    if (folder / "vae.json").is_file():
        config = vae_from_json((folder / "vae.json").read_text())
    elif (folder / "config.json").is_file():
        config = vae_from_json(json.dumps(json.loads((folder / "config.json").read_text())["vae"]))
    else:
        raise ValueError(
            f"{folder} holds no VAE (vae.json or config.json): train one first, or name another folder."
        )
    file = folder / "vae.safetensors"
    params = TensorFile(file).read(np.float32)
    return config, params, hashlib.sha256(file.read_bytes()).hexdigest()[:16]


def make_tokenizer(experiment: DiTRun, workdir: Path, first: Checkpoint | None = None) -> Tokenizer:
    """The run's tokenizer, that of `first` or made from its captions the first time, kept in `workdir`."""
    path = workdir / "tokenizer.model"
    if not path.exists() and first is not None:
        write_files(workdir, {path.name: lambda temporary: temporary.write_bytes(first.tokenizer.model)})
    elif not path.exists():
        source = open_source(experiment.data)
        caption_of, rng = caption_map(source), np.random.default_rng(experiment.seed)
        count = min(len(source), 20_000)
        captions = [caption_of({"index": i}, rng)["caption"] for i in range(count)]
        model = train_tokenizer(captions, experiment.model.text.vocab)
        write_files(workdir, {path.name: lambda temporary: temporary.write_bytes(model)})
    return Tokenizer(path, experiment.caption_tokens or experiment.model.text.max_length)


def _run_dit(experiment: DiTRun, workdir: Path) -> TrainState:
    from rich.progress import track

    vae_config, vae_params, fingerprint = load_vae(experiment.vae)
    model = _named_after(experiment.data, _for_latents_of(vae_config, experiment.model))
    experiment = dataclasses.replace(experiment, model=model)
    first = None if experiment.start is None else load(experiment.start)
    tokenizer = make_tokenizer(experiment, workdir, first)
    prompts = _prompts(experiment, tokenizer)
    return run_dit(
        experiment,
        workdir,
        vae_params=vae_params,
        vae_fingerprint=fingerprint,
        tokenize=tokenizer,
        params=None if first is None else started_denoiser(experiment, vae_params, first),
        evaluate=functools.partial(show_dit, experiment, workdir, vae_params, tokenizer, prompts),
        progress=lambda shards: track(shards, description="encode"),
    )


def _for_latents_of(vae: VAEConfig, model: ModelConfig) -> ModelConfig:
    """The model with that VAE, its denoiser with as many channels as its latents have."""
    channels = {"in_channels": vae.latent_channels, "out_channels": vae.latent_channels}
    dit = model.dit if model.needs_image else dataclasses.replace(model.dit, **channels)
    return dataclasses.replace(model, vae=vae, dit=dit)


def _named_after(data: DataConfig, model: ModelConfig) -> ModelConfig:
    """The model with the name of its dataset, for what it knows isn't the playground then."""
    return model if data.path is None else dataclasses.replace(model, name=Path(data.path).name)


def started_denoiser(experiment: DiTRun, vae_params: Any, first: Checkpoint) -> dict[str, Any]:
    """The denoiser and text encoder of `first`, the run's start, for the latents of the run's VAE."""
    wanted = experiment.model
    ours = _for_latents_of(wanted.vae, first.config)
    factors = ("temporal_factor", "spatial_factor")
    same = all(getattr(first.config.vae, factor) == getattr(wanted.vae, factor) for factor in factors)
    if not same or (ours.dit, ours.text) != (wanted.dit, wanted.text):
        raise ValueError(
            f"{experiment.start} holds other networks than the run's model: only the VAE's channels and weights may "
            "differ."
        )
    params = {network: first.params[network] for network in ("dit", "text")}
    if first.config.vae != wanted.vae:
        source = open_source(experiment.data)
        clips = np.stack([source[i]["video"] for i in range(min(MEASURED, len(source)))])
        old, new = (
            latent_encoder(VAE(config), weights)(clips).reshape(-1, config.latent_channels)
            for config, weights in ((first.config.vae, first.params["vae"]), (wanted.vae, vae_params))
        )
        params["dit"] = turned(params["dit"], *latent_maps(old, new))
    return params


def _prompts(experiment: DiTRun, tokenizer: Tokenizer) -> list[str]:
    """What the sheets show: captions of new scenes; or of a dataset's test split, then of what it trains on, as far as
    their words are in the vocabulary, which is of the latter alone."""
    if experiment.data.path is None:
        source = open_source(dataclasses.replace(experiment.data, count=FRESH + SHOWN, keep_in_memory=False))
        return [source[i]["caption"] for i in range(FRESH, FRESH + SHOWN)]
    own = dataclasses.replace(experiment.data, keep_in_memory=False)
    sources = (open_source(data) for data in (kept_apart(experiment.data), own) if data is not None)
    captions = (source[i]["caption"] for source in sources for i in range(len(source)))
    known = (caption for caption in captions if not tokenizer.unknown_words(caption))
    return list(itertools.islice(dict.fromkeys(known), SHOWN))


def show_dit(
    experiment: DiTRun,
    workdir: Path,
    vae_params: Any,
    tokenizer: Tokenizer,
    prompts: list[str],
    state: TrainState,
    step: int,
) -> None:
    """A sheet of unseen prompts sampled from the EMA, and the whole model as weights."""
    from sora_jax.studio.pipeline import Pipeline

    params = {**jax.device_get(state.sampled), "vae": vae_params}
    checkpoint = Checkpoint(config=experiment.model, params=params, tokenizer=tokenizer)
    save(workdir / "weights", checkpoint)
    data = experiment.data
    clips = Pipeline(checkpoint).generate(
        prompts, size=(data.height, data.width), frames=data.frames, fps=data.fps, progress=False
    )
    sheet = workdir / "sheets" / f"step-{step:06d}.png"
    sheet.parent.mkdir(exist_ok=True)
    contact_sheet(clips, prompts, path=sheet)


def export(workdir: Path, folder: Path) -> None:
    """Weights from a denoiser's run that has made none, or older ones: the newest checkpoint's moving average.

    A LoRA's run gives an adapter's file in `folder`, the others a whole model, with the VAE, text encoder and
    tokenizer that the run was given. Raises ValueError for another folder, or where those are gone.
    """
    path = workdir / "config.json"
    found = json.loads(path.read_text()) if path.is_file() else {}
    if not {"model", "sigma"} <= found.keys():
        raise ValueError(f"{workdir} holds no denoiser's run: name its --workdir.")
    ema, _ = sampled_params(workdir)
    if found.get("lora"):
        save_lora(folder / FILE_NAMES[0], ema, LoRAConfig(**found["lora"]).scale)
        return
    model = from_json(json.dumps(found["model"]))
    if "start_from" in found:
        base = load(found["start_from"])
        config = dataclasses.replace(base.config, dit=model.dit)
        params = {**base.params, "dit": ema}
        save(folder, dataclasses.replace(base, config=config, params=params), _stored(found["dtype"]))
        return
    _, vae, _ = load_vae(found["vae"])
    tokenizer = Tokenizer(workdir / "tokenizer.model", model.text.max_length)
    save(folder, Checkpoint(config=model, params={**ema, "vae": vae}, tokenizer=tokenizer))


def _stored(dtype: str) -> Any:
    """What a fine-tuned model is stored as, by what its run computed in."""
    return np.float16 if dtype == "float32" else jnp.bfloat16


def _model_of(run: FineTuneRun, found: ModelConfig) -> ModelConfig:
    """The config of the weights with the run's choices for the backward pass. ValueError for another network."""
    wanted = run.model.dit
    chosen = dataclasses.replace(found.dit, remat=wanted.remat, unroll=wanted.unroll, init=wanted.init)
    if chosen != wanted:
        fields = [
            f.name for f in dataclasses.fields(wanted) if getattr(chosen, f.name) != getattr(wanted, f.name)
        ]
        first = fields[0]
        raise ValueError(
            f"{run.start_from} holds another denoiser than the run's {run.model.name}: its {first} is "
            f"{getattr(chosen, first)} and not {getattr(wanted, first)}; name its model, or other weights."
        )
    return dataclasses.replace(found, dit=chosen)


def _run_finetune(experiment: FineTuneRun, workdir: Path) -> TrainState:
    experiment, prepared = _prepared(experiment, workdir)
    for sentence in prepared.skipped[:SHOWN]:
        print(f"left out: {sentence}", file=sys.stderr)
    if prepared.skipped:
        print(f"{len(prepared.skipped)} clips were left out.", file=sys.stderr)
    return run_finetune(
        experiment,
        workdir,
        denoiser=functools.partial(_read_denoiser, experiment.start_from),
        prepared=prepared,
        evaluate=functools.partial(show_finetune, experiment, workdir),
    )


def _prepared(experiment: FineTuneRun, workdir: Path) -> tuple[FineTuneRun, Prepared]:
    """The run with the network that its weights have, and its clips. The text encoder and the VAE are read for this
    alone: while the denoiser trains they take no memory."""
    from rich.progress import track

    checkpoint = load(experiment.start_from, networks=("text", "vae"))
    experiment = dataclasses.replace(experiment, model=_model_of(experiment, checkpoint.config))
    if experiment.lora:
        # What can't be exported is refused before it is trained.
        written_names(sorted(jax.eval_shape(lora_init(experiment))))
    prepared = prepare_clips(
        experiment,
        workdir,
        checkpoint.params,
        checkpoint.tokenizer,
        {network: fingerprint(params) for network, params in checkpoint.params.items()},
        progress=lambda items, label: track(items, description=label),
    )
    return experiment, prepared


def _read_denoiser(start_from: str, mesh: Mesh) -> tuple[Any, str]:
    """The denoiser's parameters, of which each device's part is read by itself, and their fingerprint."""
    params = load(start_from, mesh=mesh, networks=("dit",)).params["dit"]
    return params, fingerprint(params)


def show_finetune(experiment: FineTuneRun, workdir: Path, state: TrainState, step: int) -> None:
    """The EMA as an adapter's file, or as a whole model, and a sheet of the run's prompts where it has some.

    What else it takes of the model that the run started from is read anew each time.
    """
    from sora_jax.studio.pipeline import Pipeline

    dit: Any = jax.device_get(state.sampled)
    if experiment.lora:
        save_lora(workdir / "weights" / FILE_NAMES[0], dit, experiment.lora.scale)
        if not experiment.prompts:
            return
    checkpoint = load(experiment.start_from, networks=None if experiment.lora else ("text", "vae"))
    if experiment.lora:
        dit = apply_lora(checkpoint.params["dit"], dit, experiment.lora.scale)
    config = dataclasses.replace(checkpoint.config, dit=experiment.model.dit)
    tuned = dataclasses.replace(checkpoint, config=config, params={**checkpoint.params, "dit": dit})
    if not experiment.lora:
        save(workdir / "weights", tuned, _stored(experiment.dtype))
    if experiment.prompts:
        data = experiment.data
        clips = Pipeline(tuned, jnp.dtype(experiment.dtype)).generate(
            experiment.prompts,
            size=(data.height, data.width),
            frames=data.frames,
            fps=data.fps,
            progress=False,
        )
        sheet = workdir / "sheets" / f"step-{step:06d}.png"
        sheet.parent.mkdir(exist_ok=True)
        contact_sheet(clips, list(experiment.prompts), path=sheet)
