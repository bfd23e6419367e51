"""Pixels of a scene: signed distances to solid shapes, with edges two pixels soft.

    coverage = clip((1 - d) / 2, 0, 1),  d the signed distance to the shape's edge in pixels (negative inside)
    pixel    = light * (background (1 - coverage) + color * coverage),  in sRGB values

A graded background is soft vertical bands fixed in the world, its colour times 1 + 0.5 cos 2π(x / 0.7 +
phase), so that a pan shifts them and a zoom stretches them. Only + - * / and sqrt: the same pixels on any
machine.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sora_jax.data.playground.motion import (
    EXTENT,
    Track,
    camera_track,
    clip_times,
    cos_sin,
    light_track,
    object_track,
    screen_track,
)
from sora_jax.data.playground.world import WALL_WIDTH, BackgroundColor, Color, ExtraShape, Scene, Shape

__all__ = ["BACKGROUND_RGB", "BAND_WIDTH", "COLOR_RGB", "DISTANCE", "WALL_RGB", "render"]

COLOR_RGB: dict[Color, tuple[int, int, int]] = {
    "red": (228, 36, 40),
    "green": (40, 200, 64),
    "blue": (44, 92, 255),
    "yellow": (252, 224, 40),
    "purple": (168, 56, 216),
    "orange": (255, 136, 16),
    "white": (248, 248, 248),
    "cyan": (40, 216, 228),
}
BACKGROUND_RGB: dict[BackgroundColor, tuple[int, int, int]] = {
    "black": (14, 14, 14),
    "gray": (84, 84, 84),
    "navy": (20, 28, 96),
    "maroon": (92, 14, 34),
    "forest": (12, 72, 40),
    "brown": (96, 60, 24),
}
WALL_RGB = (160, 160, 160)
BAND_WIDTH = 0.7
"""One period of a graded background, in short sides of the frame."""
BAND_DEPTH = 0.5
EDGE = 2.0
"""Pixels over which an object's colour fades into what is behind it."""
_BLACK_GRADED = (28, 28, 28)
_CHUNK_PIXELS = 4_000_000

_HALF_SIDE = 0.80
_TRIANGLE = 1.15
_STAR_OUTER, _STAR_INNER = 1.15, 0.50
_RING_OUTER, _RING_INNER = 1.0, 0.56
_HALF_SQRT3 = 0.8660254037844386
_COS36, _SIN36 = 0.8090169943749475, 0.5877852522924731
_LOBE_X, _LOBE_Y, _LOBE_R = 0.50, 0.34, 0.54
_BITE_Y, _BITE_R = -0.50, 0.80


def _circle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.sqrt(x * x + y * y) - 1.0


def _ring(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    middle, half = 0.5 * (_RING_OUTER + _RING_INNER), 0.5 * (_RING_OUTER - _RING_INNER)
    return np.abs(np.sqrt(x * x + y * y) - middle) - half


def _square(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - _HALF_SIDE


def _triangle(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.maximum(_HALF_SQRT3 * np.abs(x) - 0.5 * y, y) - 0.5 * _TRIANGLE


def _star(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Mirrors fold the plane onto the tenth from the upper tip (angle 0) to an inner corner (36 degrees).
    x, y = np.abs(x), -y
    for nx, ny in ((_COS36, -_SIN36), (-_COS36, -_SIN36)):
        beyond = 2.0 * np.maximum(nx * x + ny * y, 0.0)
        x, y = x - beyond * nx, y - beyond * ny
    x = np.abs(x)
    ex, ey = _STAR_INNER * _SIN36, _STAR_INNER * _COS36 - _STAR_OUTER
    qx, qy = x, y - _STAR_OUTER
    along = np.clip((qx * ex + qy * ey) / (ex * ex + ey * ey), 0.0, 1.0)
    dx, dy = qx - along * ex, qy - along * ey
    return np.where(qx * ey - qy * ex < 0.0, 1.0, -1.0) * np.sqrt(dx * dx + dy * dy)


def _heart(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # Two round lobes, and below them the wedge between the lobes' tangents through the tip at (0, -1).
    x, y = np.abs(x), -y
    cx, cy = _LOBE_X, _LOBE_Y + 1.0
    length = (cx * cx + cy * cy) ** 0.5
    sine = _LOBE_R / length
    cosine = (1.0 - sine * sine) ** 0.5
    tx, ty = (cx * cosine + cy * sine) / length, (cy * cosine - cx * sine) / length
    px, py = x - _LOBE_X, y - _LOBE_Y
    lobe = np.sqrt(px * px + py * py) - _LOBE_R
    outside, above = x * ty - (y + 1.0) * tx, px * tx + py * ty
    return np.minimum(lobe, np.maximum(np.maximum(outside, above), py))


def _crescent(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    # A disc with a smaller one taken out above its middle: a bowl with two horns.
    bite = np.sqrt(x * x + (y - _BITE_Y) * (y - _BITE_Y)) - _BITE_R
    return np.maximum(np.sqrt(x * x + y * y) - 1.0, -bite)


DISTANCE: dict[Shape | ExtraShape, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "star": _star,
    "ring": _ring,
    "heart": _heart,
    "crescent": _crescent,
}


def _background(
    scene: Scene, pan: np.ndarray, zoom: np.ndarray, light: np.ndarray, width: int, unit: float
) -> np.ndarray:
    """Colours of a row of the background, float64[t, 1, w|1, 3]."""
    rgb = np.array(BACKGROUND_RGB[scene.background_color], np.float64)
    if scene.background == "plain":
        return light[:, None, None, None] * rgb
    if scene.background_color == "black":
        rgb = np.array(_BLACK_GRADED, np.float64)
    screen = (np.arange(width) + 0.5 - 0.5 * width) / unit
    world = screen / zoom[:, None] + pan[:, None]
    bands, _ = cos_sin(world / BAND_WIDTH + scene.background_phase)
    return ((1.0 + BAND_DEPTH * bands) * light[:, None])[:, None, :, None] * rgb


def _blend(pixels: np.ndarray, cover: np.ndarray, color: np.ndarray) -> None:
    under = pixels.astype(np.float64)
    pixels[...] = np.rint(under + cover * (color - under))


def _blend_object(
    video: np.ndarray,
    shape: Shape | ExtraShape,
    rgb: tuple[int, int, int],
    track: Track,
    light: np.ndarray,
    unit: float,
) -> None:
    """Lays one object over `video` uint8[t, h, w, 3], frame by frame inside its bounding box."""
    height, width = video.shape[1:3]
    cx, cy, radius = track.x * unit + 0.5 * width, track.y * unit + 0.5 * height, track.radius * unit
    reach = int(EXTENT * radius.max()) + 2
    window = np.arange(-reach, reach + 1)
    left, top = np.floor(cx).astype(int), np.floor(cy).astype(int)
    x = ((left[:, None] + window + 0.5 - cx[:, None]) / radius[:, None])[:, None, :]
    y = ((top[:, None] + window + 0.5 - cy[:, None]) / radius[:, None])[:, :, None]
    if track.angle.any():
        cos, sin = (v[:, None, None] for v in cos_sin(track.angle))
        x, y = x * cos + y * sin, y * cos - x * sin
    coverage = np.clip(0.5 - DISTANCE[shape](x, y) * radius[:, None, None] / EDGE, 0.0, 1.0)[..., None]
    color = np.array(rgb, np.float64) * light[:, None]
    for frame, cover, tint, x0, y0 in zip(video, coverage, color, left - reach, top - reach, strict=True):
        xa, ya, xb, yb = max(x0, 0), max(y0, 0), min(x0 + len(window), width), min(y0 + len(window), height)
        if xa < xb and ya < yb:
            _blend(frame[ya:yb, xa:xb], cover[ya - y0 : yb - y0, xa - x0 : xb - x0], tint)


def _blend_wall(video: np.ndarray, middle: np.ndarray, half: np.ndarray, light: np.ndarray) -> None:
    """Lays the wall (pixels float64[t]: its middle and half its width) over `video`."""
    away = np.abs(np.arange(video.shape[2]) + 0.5 - middle[:, None]) - half[:, None]
    color = np.array(WALL_RGB, np.float64) * light[:, None]
    for frame, cover, tint in zip(video, np.clip(0.5 - away / EDGE, 0.0, 1.0), color, strict=True):
        columns = np.flatnonzero(cover)
        if columns.size:
            near = slice(columns[0], columns[-1] + 1)
            _blend(frame[:, near], cover[None, near, None], tint)


def render(
    scene: Scene, *, height: int = 64, width: int = 64, frames: int = 17, fps: float = 8.0
) -> np.ndarray:
    """The clip of a scene, uint8[t, h, w, 3] in sRGB.

    The scene fits itself to any frame: straight motions, light and camera take the whole clip, periodic
    motions their own time. Raises ValueError for a size, length or rate that is not positive.
    """
    for name, value in (("height", height), ("width", width), ("frames", frames), ("fps", fps)):
        if not value > 0:
            raise ValueError(f"{name} {value} is not positive: choose a number above 0.")
    unit = float(min(height, width))
    times = clip_times(frames)
    seconds = (frames - 1) / fps
    camera, light = camera_track(scene, times), light_track(scene, times)
    wide, tall = width / unit, height / unit
    row = _background(scene, camera.pan, camera.zoom, light, width, unit)
    tracks = [
        screen_track(object_track(o, times, seconds=seconds, width=wide, height=tall), camera)
        for o in scene.objects
    ]
    video = np.empty((frames, height, width, 3), np.uint8)
    video[...] = np.rint(row).astype(np.uint8)
    step = max(1, _CHUNK_PIXELS // (height * width))
    for start in range(0, frames, step):
        now = slice(start, min(start + step, frames))
        for obj, track in zip(scene.objects, tracks, strict=True):
            piece = Track(*(v[now] for v in track))
            _blend_object(video[now], obj.shape, COLOR_RGB[obj.color], piece, light[now], unit)
    if scene.occluder:
        middle = ((scene.wall_x - 0.5) * wide - camera.pan) * camera.zoom * unit + 0.5 * width
        _blend_wall(video, middle, 0.5 * WALL_WIDTH * unit * camera.zoom, light)
    return video
