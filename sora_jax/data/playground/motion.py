"""Where everything is at a time: the laws of motion of the playground world.

With clip time τ in [0, 1], T the clip's seconds and phase φ = φ0 + n τ max(1, T/2) (in longer clips a
periodic motion goes on at its own pace, the others take the whole clip):

    moves           p(τ) = p0 + τ d
    circles around  p(τ) = p0 + R (cos 2πφ, sin 2πφ)
    spins           angle(τ) = φ
    bounces         y(τ) = y0 - 4 H u (1 - u), u = frac φ: free fall between elastic hits of the floor
    grows           r(τ) = r (1 - (1 - q) (1 - τ))
    shrinks         r(τ) = r (1 - (1 - q) τ)

Units: the short side of the frame is 1, x to the right and y down from the middle of the frame, angles in
turns. Only + - * / and sqrt are used, which IEEE 754 rounds the same everywhere (a C library's sin and cos
may differ), so a seed gives the same scene and the same pixels on any machine.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from sora_jax.data.playground.world import Motion, Object, Scene

__all__ = [
    "DIM",
    "EXTENT",
    "REFERENCE_SECONDS",
    "CameraTrack",
    "Path",
    "Track",
    "camera_track",
    "clip_times",
    "cos_sin",
    "light_track",
    "object_track",
    "path_track",
    "screen_track",
]

REFERENCE_SECONDS = 2.0
"""Duration in which a periodic motion makes the turns its object names."""

EXTENT = 1.15
"""No shape reaches further from its middle than this many radii."""

DIM = 0.35
"""Brightness at the dark end of a change of light."""

_TWO_PI = 6.283185307179586
_SIN = (1.0, -1 / 6, 1 / 120, -1 / 5040, 1 / 362880, -1 / 39916800, 1 / 6227020800)


class Path(NamedTuple):
    """The floats of an `Object` that its motion needs (there are their units), or many of each, float64[n,
    1]."""

    x: Any
    y: Any
    radius: Any
    travel: Any
    turns: Any
    phase: Any


class Track(NamedTuple):
    """One object over the frames, each float64[t]: x, y, radius in short sides of the frame, angle in
    turns."""

    x: np.ndarray
    y: np.ndarray
    radius: np.ndarray
    angle: np.ndarray


class CameraTrack(NamedTuple):
    """The camera over the frames: the screen shows `zoom * (world - pan)`; each float64[t]."""

    pan: np.ndarray
    zoom: np.ndarray


def _sin(turns: np.ndarray) -> np.ndarray:
    u = turns - np.floor(turns + 0.5)
    u = np.where(u > 0.25, 0.5 - u, np.where(u < -0.25, -0.5 - u, u))
    x = _TWO_PI * u
    x2 = x * x
    y = np.full_like(x, _SIN[-1])
    for coefficient in _SIN[-2::-1]:
        y = y * x2 + coefficient
    return y * x


def cos_sin(turns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cosine and sine of an angle in turns (error below 1e-9), from additions and multiplications alone."""
    turns = np.asarray(turns, np.float64)
    return _sin(turns + 0.25), _sin(turns)


def clip_times(frames: int) -> np.ndarray:
    """Clip time τ in [0, 1] of each frame, float64[t]; a clip of one frame is the start."""
    return np.arange(frames, dtype=np.float64) / max(frames - 1, 1)


def path_track(
    motion: Motion,
    path: Path,
    times: np.ndarray,
    *,
    seconds: float = REFERENCE_SECONDS,
    width: float = 1.0,
    height: float = 1.0,
) -> Track:
    """Where a `motion` with these floats is in the world, for a frame `width` x `height` in short sides.

    Positions and straight paths stretch with the frame; sizes and circles keep their shape. The fields of
    `path` are floats, or float64[n, 1] for n tracks at once.
    """
    zero = np.zeros_like(path.x * times)
    x, y, radius = (path.x - 0.5) * width + zero, (path.y - 0.5) * height + zero, path.radius + zero
    angle = zero
    phase = path.phase + path.turns * max(1.0, seconds / REFERENCE_SECONDS) * times
    match motion:
        case "moves left":
            x = x - path.travel * width * times
        case "moves right":
            x = x + path.travel * width * times
        case "moves up":
            y = y - path.travel * height * times
        case "moves down":
            y = y + path.travel * height * times
        case "bounces":
            u = phase - np.floor(phase)
            y = y - 4.0 * path.travel * height * u * (1.0 - u)
        case "circles around":
            cos, sin = cos_sin(phase)
            x, y = x + path.travel * cos, y + path.travel * sin
        case "spins":
            angle = phase
        case "grows":
            radius = radius * (1.0 - (1.0 - path.travel) * (1.0 - times))
        case "shrinks":
            radius = radius * (1.0 - (1.0 - path.travel) * times)
    return Track(x, y, radius, angle)


def object_track(
    obj: Object,
    times: np.ndarray,
    *,
    seconds: float = REFERENCE_SECONDS,
    width: float = 1.0,
    height: float = 1.0,
) -> Track:
    """Where `obj` is in the world at clip times float64[t]; see `path_track`."""
    path = Path(obj.x, obj.y, obj.radius, obj.travel, obj.turns, obj.phase)
    return path_track(obj.motion, path, times, seconds=seconds, width=width, height=height)


def camera_track(scene: Scene, times: np.ndarray) -> CameraTrack:
    """Pan (short sides, to the right) and zoom over the clip; its middle is neither panned nor zoomed."""
    pan, zoom = np.zeros_like(times), np.ones_like(times)
    amount = scene.camera_amount
    match scene.camera:
        case "pans right":
            pan = amount * (times - 0.5)
        case "pans left":
            pan = amount * (0.5 - times)
        case "zooms in":
            zoom = (1.0 - amount) + 2.0 * amount * times
        case "zooms out":
            zoom = (1.0 + amount) - 2.0 * amount * times
    return CameraTrack(pan, zoom)


def screen_track(track: Track, camera: CameraTrack) -> Track:
    """A track as the camera sees it."""
    return Track(
        (track.x - camera.pan) * camera.zoom, track.y * camera.zoom, track.radius * camera.zoom, track.angle
    )


def light_track(scene: Scene, times: np.ndarray) -> np.ndarray:
    """Brightness of the whole picture in [DIM, 1], float64[t]."""
    match scene.light:
        case "gets dark":
            return 1.0 - (1.0 - DIM) * times
        case "gets bright":
            return DIM + (1.0 - DIM) * times
    return np.ones_like(times)
