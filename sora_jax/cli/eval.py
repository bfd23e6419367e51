"""Measures how well a model follows prompts.

sora-jax eval playground --count 200

sora-jax eval playground --prompts captions.txt --out report --json

sora-jax eval studio --count 100

sora-jax eval studio --groups extend loop --count 100 --record studio_figures.json
"""

import json
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

__all__ = ["Args", "run"]

MODELS_OWN = tyro.conf.arg(help_behavior_hint="(default: the model's)")


@dataclass(frozen=True, kw_only=True)
class Args:
    """Options of `sora-jax eval`."""

    what: tyro.conf.Positional[Literal["playground", "studio"]]
    """What to measure: `playground` samples fresh captions and lets the oracle read the clips, `studio` tries every
    edit on fresh scenes."""
    prompts: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """A file of prompts of your own, one a line, in place of the drawn captions."""
    count: int = 200
    """Clips in each group, cases of each edit."""
    groups: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: all)")] = ()
    """Groups or edits to measure, for instance `one_object vae`; `crescent`, of a LoRA's, only where it is named."""
    out: Annotated[
        Path | None, tyro.conf.arg(help_behavior_hint="(default: eval_playground, eval_studio)")
    ] = None
    """A folder for figures.json, failures.png and successes.png, and for drift.png, a minute's, of the studio's."""
    record: Annotated[Path | None, tyro.conf.arg(help_behavior_hint="(optional)")] = None
    """A file that the studio's figures are put into, beside what it has of other edits."""
    model: str = "playground"
    """A model's name, or a folder of weights."""
    lora: Annotated[
        tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(help_behavior_hint="(repeatable)")
    ] = ()
    """A LoRA to add, as FILE or FILE:WEIGHT."""
    batch: int = 16
    """Clips made at once."""
    seed: int = 0
    """The noise of the first clip of each group."""
    steps: Annotated[int | None, MODELS_OWN] = None
    """Sampling steps."""
    guidance: Annotated[float | None, MODELS_OWN] = None
    """How strongly the words steer."""
    sampler: Annotated[str | None, MODELS_OWN] = None
    """unipc, dpmpp, heun, euler or ancestral."""
    as_json: Annotated[bool, tyro.conf.arg(name="json")] = False
    """Print the figures as JSON in place of the table."""


def _read_prompts(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise ValueError(f"{path} isn't UTF-8 text: save it as such, one prompt a line.") from None
    prompts = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not prompts:
        raise ValueError(f"{path} holds no prompts: write one a line.")
    return prompts


def run(args: Args) -> int:
    """Evaluates, prints the table or JSON, and writes the figures and two sheets."""
    from sora_jax.studio.request import check_request

    check_request(steps=args.steps, guidance=args.guidance, seed=args.seed, variations=args.batch)
    prompts = _read_prompts(args.prompts) if args.prompts else []
    if args.record is not None and args.what != "studio":
        raise ValueError("--record keeps figures of edits: give it with `eval studio`.")
    out = args.out or Path(f"eval_{args.what}")
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ValueError(f"the folder {out} can't be made ({error.strerror}).") from error

    from rich.console import Console

    from sora_jax.evals.playground import GROUPS, evaluate
    from sora_jax.evals.report import record, studio_table, table, write_drift, write_json, write_sheet
    from sora_jax.evals.studio import TASKS, evaluate_studio
    from sora_jax.studio.pipeline import load
    from sora_jax.studio.progress import bar

    pipeline = load(args.model, lora=args.lora)
    settings = {"steps": args.steps, "guidance": args.guidance, "sampler": args.sampler}
    defaults = pipeline.config.defaults
    began = time.perf_counter()
    with bar("evaluating", unit="clips") as report:
        parts = args.groups or (tuple(TASKS) if args.what == "studio" else (*GROUPS, "vae"))
        total = len(prompts) or args.count * len(parts)
        before: dict[str, int] = {}

        def progress(group: str, done: int, of: int) -> None:
            before[group] = done
            report(sum(before.values()), total)

        if args.what == "studio":
            found, best, worst = evaluate_studio(
                pipeline, count=args.count, tasks=parts, seed=args.seed, progress=progress, **settings
            )
        else:
            result = evaluate(
                pipeline,
                count=args.count,
                groups=parts,
                prompts=prompts,
                batch=args.batch,
                seed=args.seed,
                progress=progress,
                **settings,
            )
            found, best, worst = result.figures, result.successes, result.failures
    figures = {
        **found,
        "settings": {k: getattr(defaults, k) if v is None else v for k, v in settings.items()},
        "seed": args.seed,
        "lora": list(args.lora),
        "seconds": round(time.perf_counter() - began, 1),
    }
    if args.as_json:
        print(json.dumps(figures, indent=2))
    else:
        Console(width=None if sys.stdout.isatty() else 120).print(
            (studio_table if args.what == "studio" else table)(figures)
        )
    written = [
        write_json(figures, out / "figures.json"),
        write_sheet(worst, out / "failures.png"),
        write_sheet(best, out / "successes.png"),
    ]
    if args.record is not None:
        written.append(record(figures, args.record))
    if minute := figures.get("tasks", {}).get("minute"):
        try:
            written.append(write_drift(minute, out / "drift.png"))
        except ImportError:
            print(
                "sora-jax: note: drift.png needs Matplotlib: pip install 'sora_jax[plots]'.", file=sys.stderr
            )
    for path in filter(None, written):
        print(path, file=sys.stderr if args.as_json else sys.stdout)
    return 0
