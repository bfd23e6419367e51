"""Plans as tables for people; `Plan.record` is what programs read."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table

from sora_jax.evals.plan.plan import Plan
from sora_jax.train.peaks import GIB

__all__ = ["outcome", "ranking", "table"]

LIMITS = {
    "compute": "the matrix units",
    "memory": "the main memory",
    "ici": "links in a slice",
    "dcn": "slices' network",
}


def outcome(plan: Plan) -> str:
    """One sentence: whether it fits."""
    used = f"{plan.hbm_bytes_per_chip / GIB:.1f}"
    if plan.fits is None:
        return f"{used} GiB a device; how much there is of memory isn't known"
    assert plan.hbm_limit_bytes is not None
    of = f"{used} of {plan.hbm_limit_bytes / GIB:.1f} GiB a chip"
    return f"fits: {of}" if plan.fits else f"does not fit: needs {of}"


def table(plan: Plan) -> Group:
    """What one plan says, in blocks."""
    head = Table(title=f"{plan.experiment} on {plan.topology}", show_header=False)
    mesh = ", ".join(f"{axis} {size}" for axis, size in plan.mesh.items() if size > 1) or "one device"
    head.add_row("topology", plan.said)
    head.add_row("mesh", mesh)
    head.add_row(
        "settings", ", ".join(f"{key} {value}" for key, value in plan.settings.items() if value is not None)
    )
    head.add_row("memory", f"[{'red' if plan.fits is False else 'green'}]{outcome(plan)}[/]")
    head.add_row("compiled in", f"{plan.trace_seconds:.0f} s traced, {plan.compile_seconds:.0f} s compiled")
    for note in plan.notes:
        head.add_row("note", note)
    return Group(head, _memory(plan), *_bounds(plan), *_stages(plan))


def _memory(plan: Plan) -> Table:
    out = Table(title="memory of a chip")
    for name in ("what", "GiB"):
        out.add_column(name, justify="right" if name == "GiB" else "left")
    for name, value in plan.memory.items():
        out.add_row("on the host instead" if name == "host" else name, f"{value / GIB:.2f}")
    return out


def _bounds(plan: Plan) -> list[Table]:
    if plan.flops is None or plan.collective_bytes is None or plan.flops_per_step is None:
        return []
    work = Table(title="one step, all chips")
    work.add_column("FLOPs", no_wrap=True)
    work.add_column("PFLOP", justify="right")
    rows = {
        "of the mathematics": plan.flops_per_step,
        "with what is computed again": plan.flops["executed"],
        "  of that, in kernels": plan.flops["kernels"],
        "in XLA's program": plan.flops["compiled"],
        "  by XLA's cost_analysis()": plan.flops.get("cost_analysis"),
    }
    for name, value in rows.items():
        work.add_row(name, "not told" if value is None else f"{value / 1e15:,.3f}")
    sent = Table(title="what a chip sends in a step")
    for name in ("collective", "GB in a slice", "GB to others"):
        sent.add_column(name, justify="right" if name.startswith("GB") else "left")
    for kind in plan.collective_bytes["ici"]:
        ici, dcn = (plan.collective_bytes[network][kind] / 1e9 for network in ("ici", "dcn"))
        if ici or dcn:
            sent.add_row(kind, f"{ici:,.2f}", f"{dcn:,.2f}")
    if plan.step_seconds is None or plan.step_seconds_roofline is None or plan.mfu_bound is None:
        return [work, sent]
    bound = Table(title="no step is faster than")
    bound.add_column("bound by", no_wrap=True)
    bound.add_column("seconds", justify="right")
    for name, seconds in plan.step_seconds.items():
        bound.add_row(LIMITS[name], f"{seconds:.3f}" + (" *" if name == plan.limit else ""))
    bound.add_row("MFU at most", f"{100 * plan.mfu_bound:.1f} %")
    if plan.chip_hours is not None:
        bound.add_row(f"{plan.samples:,} clips at least", f"{plan.chip_hours:,.1f} chip-hours")
        bound.add_row("", "price not known" if plan.dollars is None else f"${plan.dollars:,.2f}")
    return [work, sent, bound]


def _stages(plan: Plan) -> list[Table]:
    if plan.stages is None:
        return []
    out = Table(title="a batch of clips, at least")
    for name in ("what", "runs", "GiB a chip", "PFLOP", "seconds"):
        out.add_column(name, justify="left" if name == "what" else "right")
    steps = plan.settings["steps"]
    for name, one, runs in (
        ("the denoiser's steps", plan, steps),
        *((_named(one), one, one.settings["runs"]) for one in plan.stages.values()),
    ):
        flops, seconds = one.flops_per_step, one.step_seconds_roofline
        out.add_row(
            name,
            f"{runs:,}",
            f"{one.hbm_bytes_per_chip / GIB:.1f}",
            "" if flops is None else f"{runs * flops / 1e15:,.3f}",
            "" if seconds is None else f"{runs * seconds:,.2f}",
        )
    if plan.seconds is not None:
        out.add_row("together", "", "", "", f"{plan.seconds:,.2f}")
    return [out]


def _named(stage: Plan) -> str:
    about = ", ".join(
        f"{value:,} {key}" for key, value in stage.settings.items() if key not in ("kind", "runs")
    )
    return f"{stage.settings['kind']} ({about})" if about else stage.settings["kind"]


def ranking(plans: Sequence[Plan]) -> Table:
    """Plans of one experiment, a row each."""
    out = Table(title=f"{plans[0].experiment} on {plans[0].topology}: {plans[0].said}")
    for name in (
        "data",
        "fsdp",
        "context",
        "tensor",
        "remat",
        "parts",
        "GiB a chip",
        "fits",
        "seconds",
        "MFU <=",
        "limit",
    ):
        out.add_column(name, justify="left" if name in ("remat", "fits", "limit") else "right")
    for plan in plans:
        seconds, mfu = plan.step_seconds_roofline, plan.mfu_bound
        out.add_row(
            *(str(size) for size in plan.mesh.values()),
            str(plan.settings.get("remat") or ""),
            str(plan.settings.get("accumulate") or ""),
            f"{plan.hbm_bytes_per_chip / GIB:.1f}",
            {True: "yes", False: "no", None: ""}[plan.fits],
            "" if seconds is None else f"{seconds:.3f}",
            "" if mfu is None else f"{100 * mfu:.1f} %",
            plan.limit or "",
        )
    return out
