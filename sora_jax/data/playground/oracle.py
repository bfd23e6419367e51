"""The oracle: what a clip of the playground shows, from its pixels alone.

First the surroundings (`oracle_setting`), then the objects before them (`tracking`), then each object's shape
(`oracle_shapes`) and motion: the law whose least-squares path, in the world's units, leaves the least over.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sora_jax.data.playground.motion import REFERENCE_SECONDS, clip_times
from sora_jax.data.playground.oracle_setting import read_setting
from sora_jax.data.playground.oracle_shapes import AREA, fit_hidden, score_shapes
from sora_jax.data.playground.scene import SHAPES
from sora_jax.data.playground.tracking import Blob, find_blobs

__all__ = ["ObjectReading", "Reading", "read"]


@dataclass(frozen=True, kw_only=True)
class ObjectReading:
    """One object as seen. `size` is None where the motion changes it; `motion` is None for a clip of one frame or a
    path no law explains. `track` float64[t, 3]: x, y from the middle of the frame (y down) and radius, in short sides
    of the frame with the camera undone, NaN where it is hidden."""

    color: str
    shape: str
    size: str | None
    motion: str | None
    track: np.ndarray


@dataclass(frozen=True, kw_only=True)
class Reading:
    """What a clip shows; `camera` and `light` are None for a clip of one frame."""

    objects: tuple[ObjectReading, ...]
    background: str
    background_color: str
    camera: str | None
    light: str | None
    occluder: bool


_LARGE_ABOVE = 0.146
_RESIZED = 0.68
_MOVED = 0.13
_SPIN_MARGIN = 0.015
_TOLERANCE = 0.06


def _rest(values: np.ndarray, columns: np.ndarray, weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Weighted rms remainder [g] and coefficients [g, m] of values [t] on columns [g, t, m]."""
    w = weight / weight.sum()
    left = np.swapaxes(columns * w[:, None], 1, 2)
    normal = left @ columns + 1e-9 * np.eye(columns.shape[-1])
    solution = np.linalg.solve(normal, left @ values[:, None])
    error = values - (columns @ solution)[..., 0]
    return np.sqrt((error * error) @ w), solution[..., 0]


def _path(blob: Blob, times: np.ndarray, stretch: float, aspect: tuple[float, float]) -> str | None:
    """The law that the middle of an object follows: a motion's name, or None where none fits."""
    use = (
        blob.whole if blob.whole.sum() >= max(3, len(times) // 4) else blob.area > 0.3 * np.median(blob.area)
    )
    if use.sum() < 2:
        return None
    tau, x, y, w = times[use], blob.x[use], blob.y[use], np.ones(int(use.sum()))
    line = np.stack([np.ones_like(tau), tau], -1)[None]
    (ex,), cx = _rest(x, line, w)
    (ey,), cy = _rest(y, line, w)
    straight = float(np.hypot(ex, ey))
    dx, dy = float(cx[0, 1]) / aspect[0], float(cy[0, 1]) / aspect[1]

    rate = stretch * np.arange(0.65, 1.11, 0.05)
    angle = 2.0 * np.pi * rate[:, None] * tau
    wheel = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], -1)
    (rx, sx), (ry, sy) = _rest(x, wheel, w), _rest(y, wheel, w)
    around = np.hypot(rx, ry)
    k = int(around.argmin())
    radius_x, radius_y = np.hypot(*sx[k, 1:]), np.hypot(*sy[k, 1:])
    round_ = float(around[k]) if min(radius_x, radius_y) > 0.5 * max(radius_x, radius_y) else np.inf
    radius = min(radius_x, radius_y)

    rate, phase = np.meshgrid(stretch * np.arange(0.9, 1.45, 0.04), np.arange(0.0, 1.0, 0.04))
    u = (rate.reshape(-1, 1) * tau + phase.reshape(-1, 1)) % 1.0
    hop = np.stack([np.ones_like(u), 4.0 * u * (1.0 - u)], -1)
    by, sy = _rest(y, hop, w)
    by = np.where(sy[:, 1] < -0.15 * aspect[1], by, np.inf)
    bounce = float(np.hypot(by.min(), x.std()))

    best = min(straight, round_ if radius > 0.08 else np.inf, bounce)
    if best > _TOLERANCE:
        return None
    if best == bounce:
        return "bounces"
    if best == straight:
        if max(abs(dx), abs(dy)) < _MOVED:
            return "stays still"
        if abs(dx) > abs(dy):
            return "moves right" if dx > 0 else "moves left"
        return "moves down" if dy > 0 else "moves up"
    return "circles around"


def _behind(blob: Blob, times: np.ndarray, wall: np.ndarray) -> str | None:
    """The way of an object that is seen on one side of the wall and then on the other, else None."""
    if not wall.any():
        return None
    middle = int(np.flatnonzero(wall).mean())
    columns = blob.alpha.sum(1)
    left, right = columns[:, :middle].sum(1), columns[:, middle:].sum(1)
    most = 0.3 * (left + right).max()
    if left.max() < most or right.max() < most:
        return None
    ahead = float((left @ times) / left.sum() - (right @ times) / right.sum())
    level = np.std(blob.y[(left + right) > most])
    if abs(ahead) < 0.3 or level > _TOLERANCE:
        return None
    return "moves left" if ahead > 0 else "moves right"


def _read_object(
    blob: Blob,
    times: np.ndarray,
    stretch: float,
    aspect: tuple[float, float],
    wall: np.ndarray,
    shapes: Sequence[str],
) -> ObjectReading:
    whole = blob.whole
    behind = _behind(blob, times, wall)
    if behind and whole.sum() < 3:
        return _read_hidden(blob, behind, wall, shapes)
    if not whole.any():
        whole = blob.area >= 0.8 * blob.area.max()
    k = np.flatnonzero(whole)
    weight = blob.area[k]
    motion: str | None = None
    if len(times) > 1:
        motion = behind or _path(blob, times, stretch, aspect)
    scores = score_shapes(
        blob.alpha[k], blob.cx[k], blob.cy[k], blob.rms[k], weight, times[k], stretch, shapes
    )
    still = max(scores, key=lambda s: scores[s].still)
    spun = max(scores, key=lambda s: scores[s].spun)
    shape = still
    if motion == "stays still" and scores[spun].spun > scores[still].still + _SPIN_MARGIN:
        shape, motion = spun, "spins"
    radius = np.sqrt(blob.area / AREA[shape])
    if motion == "stays still" and len(k) > 2:
        slope, start = np.polyfit(times[k], radius[k], 1)
        ratio = (start + slope) / start
        if ratio < _RESIZED or ratio > 1.0 / _RESIZED:
            motion = "grows" if ratio > 1.0 else "shrinks"
    size = None
    if motion not in ("grows", "shrinks"):
        size = "large" if np.median(radius[k]) > _LARGE_ABOVE else "small"
    return ObjectReading(color=blob.color, shape=shape, size=size, motion=motion, track=_track(blob, radius))


def _read_hidden(blob: Blob, motion: str, wall: np.ndarray, shapes: Sequence[str]) -> ObjectReading:
    """An object that the wall hides in part in (nearly) every frame."""
    unit = float(min(blob.alpha.shape[1:]))
    shape, pixels = fit_hidden(blob.alpha, wall, unit, shapes)
    radius = np.full(len(blob.area), pixels / unit)
    size = "large" if radius[0] > _LARGE_ABOVE else "small"
    return ObjectReading(color=blob.color, shape=shape, size=size, motion=motion, track=_track(blob, radius))


def _track(blob: Blob, radius: np.ndarray) -> np.ndarray:
    shown = blob.area > 0.3 * np.median(blob.area)
    return np.where(shown[:, None], np.stack([blob.x, blob.y, radius], -1), np.nan)


def read(frames: np.ndarray, fps: float = 8.0, shapes: Sequence[str] = SHAPES) -> Reading:
    """What a clip shows.

    Args:
        frames: uint8[t, h, w, 3] in sRGB, at least 32 pixels on the short side.
        fps: frames per second; periodic motions are looked for at the world's rates.
        shapes: those that an object may be; the world's own, and EXTRA_SHAPES where a scene may hold one.

    Raises:
        ValueError: frames that are not uint8[t, h, w, 3], or too small to tell shapes apart.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise ValueError(
            f"frames are {frames.dtype}{list(frames.shape)}: the oracle reads uint8[t, h, w, 3]."
        )
    if min(frames.shape[1:3]) < 32:
        raise ValueError(
            f"frames are {frames.shape[2]}x{frames.shape[1]}: the oracle needs 32 pixels a side."
        )
    pixels = _shrink(frames)
    setting = read_setting(pixels)
    times = clip_times(len(frames))
    stretch = max(1.0, (len(frames) - 1) / fps / REFERENCE_SECONDS)
    height, width = pixels.shape[1:3]
    unit = min(height, width)
    objects = [
        _read_object(blob, times, stretch, (width / unit, height / unit), setting.wall, shapes)
        for blob in find_blobs(setting)
    ]
    return Reading(
        objects=tuple(objects),
        background=setting.kind,
        background_color=setting.color,
        camera=setting.camera,
        light=setting.light,
        occluder=setting.occluder,
    )


def _shrink(frames: np.ndarray) -> np.ndarray:
    """float32 pixels, averaged in whole blocks so that the short side is below 128: more tells nothing more."""
    block = min(frames.shape[1:3]) // 64
    if block < 2:
        return frames.astype(np.float32)
    t, h, w = frames.shape[0], frames.shape[1] // block, frames.shape[2] // block
    cut = frames[:, : h * block, : w * block].reshape(t, h, block, w, block, 3)
    return cut.mean((2, 4), dtype=np.float32)
