"""What surrounds the objects, read from pixels: light, background, camera, wall.

    frame_t(x, y) = L(τ) (a + c cos 2πw/B + s sin 2πw/B) base,   w = x / zoom(τ) + pan(τ)

The light L comes from how the brightest pixels and the median pixel change. The background's base colour is the chroma
most pixels lie along; its brightness along x then has only a few unknowns, so the camera is the pan or the zoom,
searched over a grid, whose bands (linear least squares for a, c, s) explain every frame at once.
"""

from typing import NamedTuple

import numpy as np

from sora_jax.data.playground.motion import DIM, clip_times
from sora_jax.data.playground.render import BACKGROUND_RGB, BAND_WIDTH, WALL_RGB

__all__ = ["Setting", "read_setting"]

# Black differs from gray in brightness only, so the two share one line of chroma.
_BASES = ("gray", "navy", "maroon", "forest", "brown")
_BASE_RGB = np.array([BACKGROUND_RGB[name] for name in _BASES], np.float32)
_BLACK_BELOW = 52.0 / 84.0
_GRADED_ABOVE = 0.27
_PAN_ABOVE, _ZOOM_ABOVE = 0.11, 0.085
_WALL_AT_LEAST = 0.12


class Setting(NamedTuple):
    """The surroundings of a clip; `background` float32[t, 1, w, 3] and `lit` float32[t, h, w, 3] are pixels with the
    light undone; `wall` bool[w] marks its columns; `pan`, `zoom` float[t] as in `CameraTrack`."""

    kind: str
    color: str
    camera: str | None
    light: str | None
    lit: np.ndarray
    background: np.ndarray
    brightness: np.ndarray
    wall: np.ndarray
    pan: np.ndarray
    zoom: np.ndarray

    @property
    def occluder(self) -> bool:
        return bool(self.wall.any())


def _ends(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The least and the largest channel (faster than a reduction over an axis of three)."""
    r, g, b = (pixels[..., c] for c in range(3))
    return np.minimum(np.minimum(r, g), b), np.maximum(np.maximum(r, g), b)


def _read_light(pixels: np.ndarray, times: np.ndarray) -> tuple[str | None, np.ndarray]:
    """The name of the change of light and the brightness of each frame in (0, 1], float32[t]."""
    if len(times) == 1:
        return None, np.ones(1, np.float32)
    peak = _ends(pixels)[1].reshape(len(pixels), -1)
    count = max(4, round(0.004 * peak.shape[1]))
    top = np.partition(peak, -count, axis=1)[:, -count:].mean(1)
    middle = np.median(peak, axis=1)
    level = np.log(np.maximum(top, 1.0))
    if middle.max() > 24.0:
        level = 0.5 * (level + np.log(np.maximum(middle, 1.0)))
    third = max(1, len(times) // 6)
    change = float(level[-third:].mean() - level[:third].mean())
    limit = 0.5 * np.log(1.0 / DIM) * (1.0 - third / len(times))
    if abs(change) < limit:
        return "steady", np.ones(len(times), np.float32)
    slope, start = np.polyfit(times, np.exp(level), 1)
    dim = np.clip(min(start, start + slope) / max(start, start + slope), 0.25, 0.55)
    ramp = 1.0 - (1.0 - dim) * (times if change < 0 else 1.0 - times)
    return ("gets dark" if change < 0 else "gets bright"), ramp.astype(np.float32)


def _read_wall(lit: np.ndarray, unit: float) -> np.ndarray:
    low, high = _ends(lit)
    level = WALL_RGB[0]
    gray = (low > level - 24) & (high < level + 36) & (high - low < 40)
    columns = (gray.mean(1) > 0.8).mean(0) > 0.5
    return columns if columns.sum() / unit > _WALL_AT_LEAST else np.zeros_like(columns)


def _band_fit(
    b: np.ndarray, weight: np.ndarray, x: np.ndarray, pan: np.ndarray, zoom: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Weighted least squares of b[t, w] on 1, cos, sin for each camera; pan, zoom are [g, t].

    Returns the squared residual [g] and the coefficients [g, 3].
    """
    world = x / zoom[:, :, None] + pan[:, :, None]
    angle = (2.0 * np.pi / BAND_WIDTH) * world
    basis = np.stack([np.ones_like(angle), np.cos(angle), np.sin(angle)], -1).reshape(len(pan), -1, 3)
    w = weight.reshape(-1, 1)
    left = np.swapaxes(basis * w, 1, 2)
    normal = left @ basis + 1e-6 * np.eye(3)
    right = left @ b.reshape(-1, 1)
    solution = np.linalg.solve(normal, right)
    residual = (weight * b * b).sum() - (solution * right).sum((1, 2))
    return residual, solution[..., 0]


def _camera_grid(kind: str, amounts: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    path = amounts[:, None] * (times - 0.5)
    still = np.zeros_like(path)
    return (path, still + 1.0) if kind == "pan" else (still, 1.0 + 2.0 * path)


def _read_camera(
    b: np.ndarray, weight: np.ndarray, x: np.ndarray, times: np.ndarray
) -> tuple[str, np.ndarray, np.ndarray, np.ndarray]:
    """Camera's name, pan[t], zoom[t] and the background's coefficients (1, cos, sin)."""
    best = (np.inf, "pan", 0.0)
    for kind, reach in (("pan", 0.45), ("zoom", 0.35)):
        amounts = np.linspace(-reach, reach, 37)
        for _ in range(2):
            residual, _ = _band_fit(b, weight, x, *_camera_grid(kind, amounts, times))
            k = int(residual.argmin())
            step = amounts[1] - amounts[0]
            best = min(best, (float(residual[k]), kind, float(amounts[k])))
            amounts = amounts[k] + np.linspace(-step, step, 11)
    _, kind, amount = best
    if kind == "pan" and abs(amount) > _PAN_ABOVE:
        camera = "pans right" if amount > 0 else "pans left"
    elif kind == "zoom" and abs(amount) > _ZOOM_ABOVE:
        camera = "zooms in" if amount > 0 else "zooms out"
    else:
        camera, amount = "still", 0.0
    pan, zoom = _camera_grid(kind, np.array([amount]), times)
    _, solution = _band_fit(b, weight, x, pan, zoom)
    return camera, pan[0], zoom[0], solution[0]


def read_setting(pixels: np.ndarray) -> Setting:
    """The surroundings in `pixels`, float32[t, h, w, 3] in [0, 255]."""
    frames, height, width = pixels.shape[:3]
    unit = float(min(height, width))
    times = clip_times(frames)
    light, brightness = _read_light(pixels, times)
    lit = pixels / brightness[:, None, None, None] if light != "steady" else pixels
    wall = _read_wall(lit, unit)

    # A blurred edge of the wall lies on black's and gray's line.
    free = ~_widen(_widen(wall))
    columns = np.median(lit[:, ::2, free], axis=1).reshape(-1, 3)
    scale = columns @ _BASE_RGB.T / (_BASE_RGB**2).sum(1)
    off = np.linalg.norm(columns[:, None] - scale[..., None] * _BASE_RGB, axis=-1)
    off = np.where(scale < 1.75, off, np.inf)
    votes = np.bincount(off.argmin(1)[off.min(1) < 40.0], minlength=len(_BASES))
    k = int(votes.argmax())
    base = _BASE_RGB[k]

    along = lit @ (base / (base**2).sum())
    across = lit - along[..., None] * base
    across = np.einsum("thwc,thwc->thw", across, across)
    slack = (10.0 + 8.0 / brightness)[:, None, None]
    near = (across < slack * slack) & (along < 1.7) & free
    found = near.sum(1).astype(np.float32)
    b = (along * near).sum(1) / np.maximum(found, 1.0)
    # Undoing the light multiplies the noise of dark frames.
    weight = found * np.square(brightness)[:, None]

    x = (np.arange(width) + 0.5 - 0.5 * width) / unit
    total = max(float(weight.sum()), 1.0)
    mean = float((weight * b).sum()) / total
    still = np.zeros((1, frames)), np.ones((1, frames))
    _, solution = _band_fit(b, weight, x, *still)
    spread = np.sqrt(max(float((weight * (b - mean) ** 2).sum()) / total, 0.0))
    camera, pan, zoom, coefficients = "still", still[0][0], still[1][0], np.array([mean, 0.0, 0.0])
    kind = "plain"
    # A wall can hide the dark band, and most of the spread; the fitted bands decide.
    if spread > 0.08 * mean:
        if frames > 1:
            camera, pan, zoom, coefficients = _read_camera(b, weight, x, times)
        else:
            coefficients = solution[0]
        if np.hypot(coefficients[1], coefficients[2]) > _GRADED_ABOVE * coefficients[0]:
            kind = "graded"
        else:
            camera, pan, zoom, coefficients = "still", still[0][0], still[1][0], np.array([mean, 0.0, 0.0])
    angle = (2.0 * np.pi / BAND_WIDTH) * (x / zoom[:, None] + pan[:, None])
    level = coefficients[0] + coefficients[1] * np.cos(angle) + coefficients[2] * np.sin(angle)
    background = (level[:, None, :, None] * base).astype(np.float32)
    color = _BASES[k]
    if color == "gray" and coefficients[0] < _BLACK_BELOW:
        color = "black"
    if frames == 1:
        camera = None
    return Setting(kind, color, camera, light, lit, background, brightness, wall, pan, zoom)


def _widen(columns: np.ndarray) -> np.ndarray:
    wide = columns.copy()
    wide[1:] |= columns[:-1]
    wide[:-1] |= columns[1:]
    return wide
