"""A bar for sampling: steps done, steps a second, time left, on standard error so that output stays clean."""

import contextlib
import time
from collections.abc import Callable, Iterator

__all__ = ["Report", "bar", "reporting"]

Report = Callable[[int, int], None]
"""Called with (steps done, steps in all): once with 0 before the first step, and after each step."""


@contextlib.contextmanager
def bar(label: str = "sampling", unit: str = "steps") -> Iterator[Report]:
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
        since: tuple[int, float] | None = None

        def report(done: int, total: int) -> None:
            nonlocal since
            rate, now = "", time.perf_counter()
            if done and since is None:
                since = (done, now)  # what came before holds the compilation, so the rate counts from here
            elif since and done > since[0]:
                rate = f"{(done - since[0]) / (now - since[1]):.1f} {unit}/s"
            name = label if done else "compiling"
            progress.update(task, completed=done, total=total, description=name, rate=rate)

        try:
            yield report
        except BaseException:
            progress.update(task, visible=False)  # what went wrong is said without half a bar above it
            raise


@contextlib.contextmanager
def reporting(progress: bool | Report) -> Iterator[Report]:
    """The report that `progress` asks for: a bar, none, or a function of one's own."""
    if callable(progress):
        yield progress
    elif progress:
        with bar() as report:
            yield report
    else:
        yield lambda done, total: None
