"""Metrics of a run: one JSON object a line in `metrics.jsonl`, and the same numbers for TensorBoard."""

import json
import math
from pathlib import Path
from typing import IO, Any


class MetricsWriter:
    """Appends to `folder/metrics.jsonl` and `folder/tensorboard`, and to `folder/skipped.jsonl` the steps that were
    skipped. Lines after `step` (of a run that was killed between a checkpoint and its end) are dropped, so that each
    step is written once."""

    def __init__(self, folder: Path, step: int = 0):
        from tensorboardX import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._file = _reopened(folder / "metrics.jsonl", step)
        self._skipped = _reopened(folder / "skipped.jsonl", step)
        self._board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, Any]) -> None:
        values = {name: float(value) for name, value in values.items()}
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        for name, value in values.items():
            self._board.add_scalar(name, value, step)

    def write_skipped(self, step: int, values: dict[str, float], examples: list[Any]) -> None:
        """A step that was skipped, and the `index` of each example of its batch."""
        told = {name: value if math.isfinite(value) else str(value) for name, value in values.items()}
        self._skipped.write(json.dumps({"step": step, **told, "examples": examples}) + "\n")

    def close(self) -> None:
        self._file.close()
        self._skipped.close()
        self._board.close()


def _reopened(path: Path, step: int) -> IO[str]:
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if _step_of(line) <= step]
    if kept != lines:
        temporary = path.with_name(f".{path.name}.new")
        temporary.write_text("".join(f"{line}\n" for line in kept))
        temporary.replace(path)
    return path.open("a", buffering=1)


def _step_of(line: str) -> float:
    """The line's step; infinite for a line that a kill cut short."""
    try:
        return json.loads(line)["step"]
    except (json.JSONDecodeError, KeyError, TypeError):
        return math.inf
