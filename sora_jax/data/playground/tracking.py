"""The objects' masks and paths, read from pixels.

A pixel is background + α (color - background): α is the projection on the line to the color that leaves the least
over. A color is present where its lines hold enough area; each present color is one object, followed by the area,
centroid and second moment of its α, in the world's units with the camera undone.
"""

from typing import NamedTuple

import numpy as np

from sora_jax.data.playground.oracle_setting import Setting
from sora_jax.data.playground.render import COLOR_RGB

__all__ = ["Blob", "find_blobs"]

_NAMES = tuple(COLOR_RGB)
_RGB = np.array([COLOR_RGB[name] for name in _NAMES], np.float32)
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
_SEEN = 26.0
# In square short sides: half the smallest object, and twice the largest.
_LEAST_AREA, _MOST_AREA = 0.0055, 0.30
_LEAST_CORE = 0.0018


class Blob(NamedTuple):
    """One color's mask over the frames.

    alpha float32[t, h, w]; `cx`, `cy`, `rms` [t] in pixels (index coordinates); `area` [t] in square short sides with
    the camera undone; `whole` bool[t] where nothing can hide part of it; `x`, `y` [t] place in the world.
    """

    color: str
    alpha: np.ndarray
    cx: np.ndarray
    cy: np.ndarray
    rms: np.ndarray
    area: np.ndarray
    whole: np.ndarray
    x: np.ndarray
    y: np.ndarray


def _lines(delta: np.ndarray, back: np.ndarray, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """α and squared remainder, each [n, k], of delta [n, 3] along the lines from back [n, 3] to rgb [k, 3]."""
    along = rgb - back[:, None]
    length = np.einsum("nkc,nkc->nk", along, along)
    shadow = np.einsum("nc,nkc->nk", delta, along)
    alpha = np.clip(shadow / length, 0.0, 1.05)
    # |δ - α v|² without its vector.
    return alpha, np.einsum("nc,nc->n", delta, delta)[:, None] + alpha * (alpha * length - 2.0 * shadow)


def _trim(alpha: np.ndarray, reach: float) -> np.ndarray:
    """Sets a mask's pixels far from its middle to zero: specks of the same hue elsewhere."""
    height, width = alpha.shape[1:]
    rows, columns = alpha.sum(2), alpha.sum(1)
    y, x = np.arange(height), np.arange(width)
    # The median of each marginal is not drawn off by a speck.
    my = (np.cumsum(rows, 1) < 0.5 * rows.sum(1, keepdims=True)).sum(1)
    mx = (np.cumsum(columns, 1) < 0.5 * columns.sum(1, keepdims=True)).sum(1)
    keep = (np.abs(y - my[:, None]) < reach)[:, :, None] & (np.abs(x - mx[:, None]) < reach)[:, None, :]
    return alpha * keep


def _without_fringes(
    order: np.ndarray,
    rest: np.ndarray,
    alpha: np.ndarray,
    t: np.ndarray,
    y: np.ndarray,
    x: np.ndarray,
    frames: int,
) -> np.ndarray:
    """`order` (colors, largest first) without those that only rim another object: a codec's washed-out edge."""
    if len(order) < 2:
        return order
    label = order[rest[:, order].argmin(1)]
    kept: list[tuple[int, np.ndarray, np.ndarray, np.ndarray]] = []
    for k in order:
        mine = label == k
        a = alpha[mine, k]
        area = np.bincount(t[mine], a, minlength=frames)
        some = np.maximum(area, 1e-3)
        cx = np.bincount(t[mine], a * x[mine], minlength=frames) / some
        cy = np.bincount(t[mine], a * y[mine], minlength=frames) / some
        rim = False
        for _, other, ox, oy in kept:
            both = (area > 1.0) & (other > 1.0)
            if both.sum() > 0.3 * (area > 1.0).sum():
                away = np.hypot(cx - ox, cy - oy)[both] / np.sqrt(other[both] / np.pi)
                rim |= bool(np.median(away) < 1.1 and area.sum() < 0.5 * other.sum())
        if not rim:
            kept.append((int(k), area, cx, cy))
    return np.array([k for k, *_ in kept])


def find_blobs(setting: Setting) -> list[Blob]:
    """The colored objects of a clip whose surroundings are known, largest first."""
    lit, wall = setting.lit, setting.wall
    frames, height, width = lit.shape[:3]
    unit = float(min(height, width))
    delta = lit - setting.background
    open_columns = ~wall
    open_columns[1:] &= ~wall[:-1]
    open_columns[:-1] &= ~wall[1:]
    seen = (np.einsum("thwc,thwc->thw", delta, delta) > _SEEN**2) & open_columns
    t, y, x = np.nonzero(seen)
    if len(t) == 0:
        return []
    delta, back = delta[t, y, x], setting.background[t, 0, x]
    alpha, rest = _lines(delta, back, _RGB)
    label = rest.argmin(1)
    best, left = np.take_along_axis(alpha, label[:, None], 1)[:, 0], rest.min(1)
    scale = 1.0 / (setting.zoom[t] ** 2 * unit * unit * frames)
    core = (best > 0.6) & (left < 60.0**2)
    area = np.bincount(label, best * scale, minlength=len(_RGB))
    cores = np.bincount(label, core * scale, minlength=len(_RGB))
    present = np.flatnonzero((area > _LEAST_AREA) & (area < _MOST_AREA) & (cores > _LEAST_CORE))
    present = _without_fringes(present[np.argsort(-area[present])], rest, alpha, t, y, x, frames)
    if len(present) == 0:
        return []
    label = present[rest[:, present].argmin(1)]
    blobs = []
    rows, columns = np.arange(height), np.arange(width)
    for k in present:
        mine = label == k
        mask = np.zeros((frames, height, width), np.float32)
        mask[t[mine], y[mine], x[mine]] = alpha[mine, k]
        biggest = np.sqrt(np.quantile(mask.sum((1, 2)), 0.9) / np.pi)
        mask = _trim(mask, 2.3 * biggest + 2.0)
        mask = np.where(mask > 0.12, mask, 0.0)
        total = mask.sum((1, 2))
        some = np.maximum(total, 1e-3)
        cx, cy = (mask.sum(1) * columns).sum(1) / some, (mask.sum(2) * rows).sum(1) / some
        xx, yy = (mask.sum(1) * columns**2).sum(1) / some, (mask.sum(2) * rows**2).sum(1) / some
        rms = np.sqrt(np.maximum(xx + yy - cx * cx - cy * cy, 0.25))
        beside = np.where(wall, np.abs(columns - cx[:, None]), np.inf).min(1)
        touches = (mask > 0.2).any(1) & ~_beyond(wall)
        whole = (total > 0.35 * np.median(total)) & (beside > rms) & ~touches.any(1)
        wx = (cx + 0.5 - 0.5 * width) / unit / setting.zoom + setting.pan
        wy = (cy + 0.5 - 0.5 * height) / unit / setting.zoom
        blobs.append(Blob(_NAMES[k], mask, cx, cy, rms, total / (unit * setting.zoom) ** 2, whole, wx, wy))
    return sorted(blobs, key=lambda blob: -float(blob.area.max()))


def _beyond(wall: np.ndarray) -> np.ndarray:
    """Columns further than two pixels from the wall."""
    near = wall.copy()
    for _ in range(2):
        near[1:] |= near[:-1].copy()
        near[:-1] |= near[1:].copy()
    return ~near
