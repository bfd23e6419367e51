"""Which shape a mask is, and how it turns: correlation with every shape at every angle.

A mask is brought to a common frame by its own centroid and rms radius, so neither place nor size matters. The score of
"shape k turning from θ0 with n turns" is the mean over frames of corr(mask_t, template_k(θ0 + n τ)); no turning is
θ0 = n = 0. A whole path has two unknowns, so chance likenesses of single frames do not count.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from sora_jax.data.playground.motion import EXTENT
from sora_jax.data.playground.render import DISTANCE
from sora_jax.data.playground.scene import EXTRA_SHAPES, SHAPES, SPINNABLE

__all__ = ["AREA", "ShapeScore", "fit_hidden", "score_shapes"]

GRID = 24
SPAN = 2.2
_SYMMETRY = {"circle": 1, "ring": 1, "square": 4, "triangle": 3, "star": 5, "heart": 1}
_STEP = 1.0 / 72.0
_SCALES = (0.93, 1.0, 1.07)
_BUCKET = 1.2
_TURNS = np.concatenate([np.arange(-0.8, -0.29, 0.04), np.arange(0.3, 0.81, 0.04)])


class ShapeScore(NamedTuple):
    """Correlations in [-1, 1] of one shape: upright in all frames, and along its best turning path (`turns`)."""

    still: float
    spun: float
    turns: float


def _angles(shape: str) -> np.ndarray:
    if shape not in SPINNABLE:
        return np.zeros(1)
    period = 1.0 / _SYMMETRY[shape]
    return np.arange(round(period / _STEP)) * _STEP


def _fine_mask(shape: Any, edge: float) -> tuple[np.ndarray, float, float, float]:
    """Area, middle (y) and rms radius of a shape of radius 1 whose edge is `edge` wide."""
    axis = np.linspace(-1.5, 1.5, 151)
    x, y = np.meshgrid(axis, axis)
    cover = np.clip(0.5 - DISTANCE[shape](x, y) / edge, 0.0, 1.0)
    total = cover.sum()
    middle = float((cover * y).sum() / total)
    rms = float(np.sqrt((cover * (x * x + (y - middle) ** 2)).sum() / total))
    return total * 0.02**2, middle, rms, total


AREA: dict[str, float] = {shape: float(_fine_mask(shape, 0.02)[0]) for shape in (*SHAPES, *EXTRA_SHAPES)}
"""Area of each shape of radius 1."""


@lru_cache(maxsize=32)
def _templates(bucket: int, shapes: tuple[Any, ...]) -> dict[str, np.ndarray]:
    """Unit vectors float32[angles, scales, GRID²] of each shape at a radius of _BUCKET ** bucket pixels."""
    edge = 1.7 / _BUCKET**bucket
    axis = (np.arange(GRID) + 0.5) / GRID * 2.0 * SPAN - SPAN
    gx, gy = np.meshgrid(axis, axis)
    found = {}
    for shape in shapes:
        _, middle, rms, _ = _fine_mask(shape, edge)
        angle = 2.0 * np.pi * _angles(shape)[:, None, None, None]
        scale = rms / np.array(_SCALES)[:, None, None]
        # The centroid turns with the shape, about which the grid is laid.
        x, y = gx * scale, gy * scale
        u = x * np.cos(angle) + y * np.sin(angle)
        v = y * np.cos(angle) - x * np.sin(angle) + middle
        cover = np.clip(0.5 - DISTANCE[shape](u, v) / edge, 0.0, 1.0)
        cover = cover.reshape(*cover.shape[:2], -1)
        cover = cover - cover.mean(-1, keepdims=True)
        found[shape] = (cover / np.linalg.norm(cover, axis=-1, keepdims=True)).astype(np.float32)
    return found


def _patches(alpha: np.ndarray, cx: np.ndarray, cy: np.ndarray, rms: np.ndarray) -> np.ndarray:
    """Masks [t, h, w] sampled (bilinear) on the common grid: unit vectors float32[t, GRID²]."""
    frames, height, width = alpha.shape
    axis = (np.arange(GRID) + 0.5) / GRID * 2.0 * SPAN - SPAN
    x = np.clip(cx[:, None] + rms[:, None] * axis, 0.0, width - 1.001)[:, None, :]
    y = np.clip(cy[:, None] + rms[:, None] * axis, 0.0, height - 1.001)[:, :, None]
    x0, y0 = x.astype(int), y.astype(int)
    fx, fy = x - x0, y - y0
    t = np.arange(frames)[:, None, None]
    top = alpha[t, y0, x0] * (1 - fx) + alpha[t, y0, x0 + 1] * fx
    low = alpha[t, y0 + 1, x0] * (1 - fx) + alpha[t, y0 + 1, x0 + 1] * fx
    flat = (top * (1 - fy) + low * fy).reshape(frames, -1)
    flat = flat - flat.mean(-1, keepdims=True)
    return (flat / np.maximum(np.linalg.norm(flat, axis=-1, keepdims=True), 1e-6)).astype(np.float32)


def score_shapes(
    alpha: np.ndarray,
    cx: np.ndarray,
    cy: np.ndarray,
    rms: np.ndarray,
    weight: np.ndarray,
    times: np.ndarray,
    stretch: float,
    shapes: Sequence[Any] = SHAPES,
) -> dict[str, ShapeScore]:
    """Every shape's score for masks alpha[t, h, w] with centroid and rms radius in pixels (index coordinates).

    `weight` [t] says how far to trust each frame; `stretch` multiplies the turns that are looked for (long clips);
    `shapes` are those that it may be.
    """
    patches = _patches(alpha, cx, cy, rms)
    weight = weight / weight.sum()
    # rms is near 0.7 radii for most shapes.
    radius = float((weight * rms).sum()) / 0.68
    templates = _templates(
        int(np.clip(round(np.log(max(radius, 2.0)) / np.log(_BUCKET)), 4, 18)), tuple(shapes)
    )
    scores = {}
    for shape in shapes:
        bank = templates[shape]
        match = (patches @ bank.reshape(-1, GRID * GRID).T).reshape(len(patches), *bank.shape[:2]).max(-1)
        still = float(weight @ match[:, 0])
        spun, turns = -1.0, 0.0
        if shape in SPINNABLE:
            count = match.shape[1]
            start = np.arange(count)[:, None, None]
            path = (_TURNS[:, None] * stretch * times / _STEP)[None]
            index = np.rint(start + path).astype(int) % count
            along = (match[np.arange(len(times)), index] * weight).sum(-1)
            k = int(along.argmax())
            spun, turns = float(along.flat[k]), float(_TURNS[k % len(_TURNS)])
        scores[shape] = ShapeScore(still, spun, turns)
    return scores


def fit_hidden(
    alpha: np.ndarray, wall: np.ndarray, unit: float, shapes: Sequence[Any] = SHAPES
) -> tuple[str, float]:
    """Shape and radius (pixels) of masks alpha[t, h, w] whose columns `wall` bool[w] hide a part of each.

    In the frames that show most, on either side of the wall, every shape at every radius is laid at every place near
    the mask; the least squared difference over the columns that can be seen wins.
    """
    near = wall.copy()
    near[1:] |= wall[:-1]
    near[:-1] |= wall[1:]
    middle = int(np.flatnonzero(wall).mean())
    left, right = alpha[:, :, :middle].sum((1, 2)), alpha[:, :, middle:].sum((1, 2))
    chosen = {*np.argsort(-left)[:3], *np.argsort(-right)[:3]}
    chosen = [t for t in sorted(chosen) if alpha[t].sum() > 0.5 * max(left.max(), right.max())]
    radii = unit * np.linspace(0.085, 0.19, 13)
    reach = int(np.ceil(EXTENT * radii[-1])) + 1
    window = np.arange(-reach, reach + 1)
    margin = reach + 6
    seen = np.pad((~near).astype(np.float32), margin, constant_values=1.0)
    slide = np.arange(-5, 6)
    total = np.zeros((len(shapes), len(radii)))
    spots = []
    for t in chosen:
        ys, xs = np.nonzero(alpha[t] > 0.5)
        outer = (xs.min(), 1) if left[t] > right[t] else (xs.max(), -1)
        spots.append((np.pad(alpha[t], margin), int(ys.min() + ys.max()) // 2, *outer))
    for i, shape in enumerate(shapes):
        for j, radius in enumerate(radii):
            distance = DISTANCE[shape](window / radius, window[:, None] / radius)
            cover = np.clip(0.5 - distance * radius, 0.0, 1.0).astype(np.float32)
            for image, cy, edge, side in spots:
                cx = round(float(edge + side * radius))
                y0, x0 = cy + margin - reach - 5, cx + margin - reach - 5
                size = len(window) + len(slide) - 1
                part = image[y0 : y0 + size, x0 : x0 + size]
                open_ = seen[x0 : x0 + size]
                shape_ = (len(window), len(window))
                patches = np.lib.stride_tricks.sliding_window_view(part * open_, shape_)
                masks = np.lib.stride_tricks.sliding_window_view(open_, len(window))
                cross = np.einsum("abyx,yx->ab", patches, cover)
                inside = masks @ np.square(cover).sum(0)
                missed = np.square(part * open_).sum()
                total[i, j] += float((inside - 2.0 * cross).min() + missed) / missed
    i, j = np.unravel_index(total.argmin(), total.shape)
    return shapes[int(i)], float(radii[j])
