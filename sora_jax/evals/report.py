"""Figures as a table for people and JSON for programs, and sheets of the clips behind them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sora_jax.media import contact_sheet
from sora_jax.media.atomic import atomic

__all__ = ["record", "studio_table", "table", "write_drift", "write_json", "write_sheet"]


def _mark(value: float, needs: float | None) -> str:
    if needs is None:
        return ""
    return "[green]yes[/]" if value >= needs else "[red]no[/]"


def table(figures: dict[str, Any]) -> Any:
    """A rich table of `evaluate`'s figures."""
    from rich.table import Table

    out = Table(title=f"{figures['model']}: what the oracle finds in clips of fresh captions")
    out.add_column("captions", no_wrap=True)
    for name in ("right", "rate", "95 % interval", "needed", "met"):
        out.add_column(name, justify="right")
    for group in figures["groups"].values():
        needs = group["needs"]
        out.add_row(
            group["title"],
            f"{group['right']}/{group['count']}",
            f"{100 * group['rate']:.1f} %",
            f"{100 * group['low']:.1f} to {100 * group['high']:.1f}",
            f"{100 * needs:.0f} %" if needs is not None else "",
            _mark(group["rate"], needs),
        )
        parts = [
            f"{name} {100 * part['rate']:.0f}"
            for name, part in group["attributes"].items()
            if name != "whole"
        ]
        if len(parts) > 1 and group.get("whole"):
            out.add_row(f"  [dim]{', '.join(parts)}[/]")
    if vae := figures.get("vae"):
        out.add_row(
            "VAE, PSNR on fresh clips",
            str(vae["count"]),
            f"{vae['psnr']:.2f} dB",
            f"{vae['low']:.2f} to {vae['high']:.2f}",
            f"{vae['needs']:.0f} dB",
            _mark(vae["psnr"], vae["needs"]),
        )
    return out


def studio_table(figures: dict[str, Any]) -> Any:
    """A rich table of `evaluate_studio`'s figures."""
    from rich.table import Table

    out = Table(title=f"{figures['model']}: what each edit does")
    out.add_column("edit", no_wrap=True)
    for name in ("what", "cases", "found", "95 % interval", "needed", "met"):
        out.add_column(name, justify="right")
    for task in figures["tasks"].values():
        for place, row in enumerate(task["rows"]):
            scale, unit = (100, " %") if "right" in row else (1, "")
            needs = row["needs"]
            out.add_row(
                "" if place else task["title"],
                row["name"],
                str(task["count"]),
                f"{scale * row['value']:.1f}{unit}",
                f"{scale * row['low']:.1f} to {scale * row['high']:.1f}",
                "" if needs is None else f"{scale * needs:.0f}{unit}",
                _mark(row["value"], needs),
            )
    return out


def write_json(figures: dict[str, Any], path: Path) -> Path:
    """Writes the figures in one piece or not at all."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return path


def record(figures: dict[str, Any], path: Path) -> Path:
    """Writes the figures of `evaluate_studio` into a file that keeps what it has of other edits.

    Raises ValueError for a file that holds something else, or figures of another model.
    """
    found: dict[str, Any] = {"model": figures["model"], "tasks": {}}
    if path.exists():
        try:
            found = json.loads(path.read_text(encoding="utf-8"))
            same = found["model"] == figures["model"] and isinstance(found["tasks"], dict)
        except (ValueError, LookupError, TypeError):
            same = False
        if not same:
            raise ValueError(
                f"{path} holds no figures of {figures['model']}'s edits: name another file, or a new one."
            )
    how = {name: figures[name] for name in ("settings", "seed", "lora", "seconds")}
    for name, task in figures["tasks"].items():
        found["tasks"][name] = {**task, **how}
    return write_json(found, path)


def write_drift(task: dict[str, Any], path: Path) -> Path:
    """Draws how many of the cases of an edit are still right after so many seconds, as a picture.

    task: one of `evaluate_studio`'s, whose rows are named by times, as in "15 s".

    Raises ImportError without Matplotlib.
    """
    from matplotlib.figure import Figure

    rows = [row for row in task["rows"] if row["name"].endswith(" s")]
    seconds = [float(row["name"].removesuffix(" s")) for row in rows]
    values, low, high = ([100 * row[name] for row in rows] for name in ("value", "low", "high"))
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    axes: Any = figure.add_subplot()
    axes.plot(seconds, values, marker="o")
    axes.fill_between(seconds, low, high, alpha=0.2, label="95 % interval")
    for row, second in zip(rows, seconds, strict=True):
        if row["needs"] is not None:
            axes.plot(second, 100 * row["needs"], marker="_", markersize=20, color="black", label="asked for")
    axes.set(title=task["title"], xlabel="seconds", ylabel=f"right, % of {task['count']}", ylim=(0, 100))
    axes.legend()
    with atomic(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return path


def write_sheet(shown: Sequence[Any], path: Path) -> Path | None:
    """A sheet of clips under their labels; nothing is written where there are none."""
    if not shown:
        path.unlink(missing_ok=True)
        return None
    contact_sheet([one.clip for one in shown], [one.label for one in shown], path=path)
    return path
