"""Draws a run's metrics.jsonl as curves, one panel a field, against steps.

python docs/make_curves.py runs/playground_vae docs/playground_vae.png loss unseen_psnr
"""

import json
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

SPAN = 40
"""The curve is smoothed over one part in so many of its length."""


def smoothed(values: list[float]) -> list[float]:
    """An exponential moving average, without the bias of its first value."""
    keep = 1 - min(1, SPAN / len(values))
    mean, weight, out = 0.0, 0.0, []
    for value in values:
        mean, weight = keep * mean + (1 - keep) * value, keep * weight + 1 - keep
        out.append(mean / weight)
    return out


def main(workdir: str, picture: str, *fields: str) -> None:
    lines = [json.loads(line) for line in (Path(workdir) / "metrics.jsonl").read_text().splitlines()]
    figure, panels = plt.subplots(1, len(fields), figsize=(5.5 * len(fields), 3.4), squeeze=False)
    for panel, field in zip(panels[0], fields, strict=True):
        points = [(line["step"], line[field]) for line in lines if field in line]
        steps, values = zip(*points, strict=True)
        many = len(points) > 100
        panel.plot(steps, values, color="tab:blue", alpha=0.25 if many else 1, marker=None if many else "o")
        if many:
            panel.plot(steps, smoothed(list(values)), color="tab:blue")
            low, high = np.percentile(values, (0, 98))
            panel.set_ylim(low - 0.05 * (high - low), high)
        panel.set(xlabel="step", title=field.replace("_", " "))
        panel.grid(alpha=0.3)
    figure.tight_layout()
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
