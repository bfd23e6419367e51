"""Records as tables and as a plot: one by itself, or several against the first."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sora_jax.evals.bench.record import Measure, Record

__all__ = ["compared", "plot", "table", "time_of"]


def duration(seconds: float) -> str:
    """Seconds for people: three digits and a unit."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds * 1e6:.3g} µs"


def number(value: Any) -> str:
    """A figure for people; None is infinite."""
    if value is None:
        return "∞"
    if isinstance(value, tuple | list):
        return f"{len(value)} numbers"
    magnitude = abs(value)
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if magnitude >= 10 * size:
            return f"{value / size:.3g} {unit}"
    return f"{value:.4g}"


def time_of(measure: Measure) -> str:
    """Median and quartiles for people; empty where nothing was timed."""
    s = measure.seconds
    return "" if s is None else f"{duration(s.median)} [{duration(s.lower)} to {duration(s.upper)}]"


def _cells(measure: Measure) -> dict[str, str]:
    cells = {"median [quartiles]": time_of(measure)} if measure.seconds else {}
    cells |= {f"{what}/s": number(rate) for what, rate in measure.per_second.items()}
    if measure.flops_per_second is not None:
        cells["GFLOP/s"] = f"{measure.flops_per_second / 1e9:.3g}"
    if measure.share_of_peak is not None:
        cells["of peak"] = f"{100 * measure.share_of_peak:.0f} %"
    if measure.compile_seconds is not None:
        cells["compile"] = duration(measure.compile_seconds)
    if measure.memory_bytes is not None:
        cells["memory"] = f"{measure.memory_bytes / 2**20:.0f} MiB"
    return cells | {name.replace("_", " "): number(value) for name, value in measure.figures.items()}


def title(record: Record) -> str:
    """What and where, in one line."""
    machine = record.machine
    where = machine.host_cpu if machine.platform == "cpu" else machine.device_kind
    peak = "" if record.peak is None else f"; peak {number(record.peak.flops_per_second)}FLOP/s a device"
    return f"{record.bench} on {machine.devices} x {where}{peak}"


def table(record: Record) -> Any:
    """A rich table of one record: a column for everything that some measure has."""
    from rich.table import Table

    rows = [_cells(measure) for measure in record.measures]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    out = Table(title=title(record))
    out.add_column(record.bench)
    variants = any(measure.variant for measure in record.measures)
    if variants:
        out.add_column("how")
    for column in columns:
        out.add_column(column, justify="right")
    for i, (measure, row) in enumerate(zip(record.measures, rows, strict=True)):
        new = i == 0 or record.measures[i - 1].name != measure.name
        ends = i + 1 < len(rows) and record.measures[i + 1].name != measure.name
        words = [measure.name if new else "", *([measure.variant] if variants else [])]
        out.add_row(*words, *(row.get(column, "") for column in columns), end_section=ends and variants)
    return out


def _by_key(records: Mapping[str, Record]) -> dict[tuple[str, str, str], dict[str, Measure]]:
    """The measures of all records that were timed, by what they are of."""
    found: dict[tuple[str, str, str], dict[str, Measure]] = {}
    for label, record in records.items():
        for measure in record.measures:
            if measure.seconds is not None:
                found.setdefault((record.bench, measure.name, measure.variant), {})[label] = measure
    if not found:
        raise ValueError(
            "the records hold no times: compare those of train, sample, vae, data, ops or peers."
        )
    return found


def differences(records: Mapping[str, Record]) -> list[str]:
    """A sentence for each thing that makes the first record and another one hard to compare."""
    (first_label, first), *others = records.items()
    said = []
    for label, record in others:
        pairs = {
            "device": (first.machine.device_kind, record.machine.device_kind),
            "CPU": (first.machine.host_cpu, record.machine.host_cpu),
            "devices": (first.machine.devices, record.machine.devices),
            "mesh": (first.mesh, record.mesh),
            "flags": (first.flags, record.flags),
        }
        keys = first.settings.keys() | record.settings.keys()
        pairs |= {
            f"setting {key}": (first.settings.get(key), record.settings.get(key))
            for key in sorted(keys)
            if first.bench == record.bench
        }
        said += [f"{name}: {a} in {first_label}, {b} in {label}" for name, (a, b) in pairs.items() if a != b]
    return said


def compared(records: Mapping[str, Record]) -> Any:
    """A rich table: each record's median and how many times as fast as the first's it is, by what was measured.

    Raises ValueError where there is nothing to compare.
    """
    from rich.table import Table

    rows, labels = _by_key(records), list(records)
    out = Table(title=f"medians, and how many times as fast as {labels[0]}")
    out.add_column("measured")
    out.add_column("how")
    for label in labels:
        out.add_column(label, justify="right")
    for (bench, name, variant), found in rows.items():
        cells = []
        for label in labels:
            measure = found.get(label)
            if measure is None or measure.seconds is None:
                cells.append("")
                continue
            text = f"{duration(measure.seconds.median)} ±{_half_spread(measure):.0f} %"
            if measure.share_of_peak is not None:
                text += f", {100 * measure.share_of_peak:.0f} % of peak"
            first = found.get(labels[0])
            if label != labels[0] and first is not None and first.seconds is not None:
                text += f", {first.seconds.median / measure.seconds.median:.2f}x"
            cells.append(text)
        out.add_row(f"{bench}: {name}", variant, *cells)
    return out


def _half_spread(measure: Measure) -> float:
    """Half the distance of the quartiles, in % of the median."""
    s = measure.seconds
    assert s is not None
    return 50 * (s.upper - s.lower) / s.median


def plot(records: Mapping[str, Record], path: Path) -> Path:
    """Bars of the medians with their quartiles, one group for each thing measured, written as a picture.

    Raises ValueError where Matplotlib is missing, or there is nothing to compare.
    """
    rows, labels = _by_key(records), list(records)
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ValueError("the plot needs Matplotlib: pip install 'sora_jax[plots]'.") from error
    from sora_jax.media.atomic import atomic

    figure = Figure(figsize=(9, 1 + 0.4 * len(rows) * len(labels)), layout="constrained")
    axes: Any = figure.add_subplot()
    height = 0.8 / len(labels)
    for i, label in enumerate(labels):
        shown: Sequence[Any] = [
            (y, found[label].seconds) for y, found in enumerate(rows.values()) if label in found
        ]
        medians = [s.median for _, s in shown]
        spread = [[s.median - s.lower for _, s in shown], [s.upper - s.median for _, s in shown]]
        axes.barh([y + i * height for y, _ in shown], medians, height, xerr=spread, label=label)
    names = [" ".join(filter(None, (f"{bench}: {name}", variant))) for bench, name, variant in rows]
    axes.set_yticks([y + 0.4 - height / 2 for y in range(len(rows))], names)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel("seconds, median and quartiles; shorter is faster")
    axes.legend()
    with atomic(path) as temporary:
        figure.savefig(temporary, format=path.suffix.lstrip(".") or "png", dpi=120)
    return path
