"""A bar for sampling: steps done, steps a second, time left, on standard error so that output stays clean."""

import contextlib
import time
from collections.abc import Callable, Iterator

__all__ = ["Report", "bar"]

Report = Callable[[int, int], None]
"""Called with (steps done, steps in all): once with 0 before the first step, and after each step."""


@contextlib.contextmanager
def bar(label: str = "sampling") -> Iterator[Report]:
    """A report that draws itself. Where standard error is no terminal only the finished bar is written."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(elapsed_when_finished=True),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("preparing", total=None, rate="")
        first: list[float] = []

        def report(done: int, total: int) -> None:
            # The first step holds the compilation, so the rate counts from its end.
            first.append(time.perf_counter()) if done == 1 else None
            elapsed = time.perf_counter() - first[0] if first else 0.0
            rate = f"{(done - 1) / elapsed:.1f} steps/s" if done > 1 and elapsed > 0 else ""
            name = label if done else "compiling"
            progress.update(task, completed=done, total=total, description=name, rate=rate)

        yield report
