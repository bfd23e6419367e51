"""The playground world: what a scene is, and how one is drawn from an integer.

A scene is one to three solid shapes of different colours, each with one motion, before a plain or graded background,
under a light, seen by a camera, sometimes with a gray wall in front. Every attribute can be read from the pixels: a
camera moves only before a graded background (whose bands are fixed in the world), only shapes without full symmetry
spin, sizes leave a clear gap, objects never touch, and no background colour looks like an object's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from sora_jax.data.playground import motion as laws
from sora_jax.data.playground.splits import (
    HELD_OUT_COLOR_SHAPE,
    HELD_OUT_SHAPE_MOTION,
    SPLITS,
    Split,
    is_held_out,
)

__all__ = [
    "BACKGROUND_COLORS",
    "BACKGROUND_KINDS",
    "CAMERAS",
    "COLORS",
    "HORIZONTAL",
    "LIGHTS",
    "MOTIONS",
    "RESIZING",
    "SHAPES",
    "SIZES",
    "SPINNABLE",
    "WALL_WIDTH",
    "BackgroundColor",
    "BackgroundKind",
    "Camera",
    "Color",
    "Light",
    "Motion",
    "Object",
    "Scene",
    "Shape",
    "Size",
    "draw_scene",
]

Shape = Literal["circle", "square", "triangle", "star", "ring", "heart"]
Color = Literal["red", "green", "blue", "yellow", "purple", "orange", "white", "cyan"]
Size = Literal["small", "large"]
Motion = Literal[
    "moves left",
    "moves right",
    "moves up",
    "moves down",
    "stays still",
    "bounces",
    "circles around",
    "spins",
    "grows",
    "shrinks",
]
BackgroundKind = Literal["plain", "graded"]
BackgroundColor = Literal["black", "gray", "navy", "maroon", "forest", "brown"]
Camera = Literal["still", "pans left", "pans right", "zooms in", "zooms out"]
Light = Literal["steady", "gets dark", "gets bright"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLORS: tuple[Color, ...] = get_args(Color)
SIZES: tuple[Size, ...] = get_args(Size)
MOTIONS: tuple[Motion, ...] = get_args(Motion)
BACKGROUND_KINDS: tuple[BackgroundKind, ...] = get_args(BackgroundKind)
BACKGROUND_COLORS: tuple[BackgroundColor, ...] = get_args(BackgroundColor)
CAMERAS: tuple[Camera, ...] = get_args(Camera)
LIGHTS: tuple[Light, ...] = get_args(Light)

HORIZONTAL: tuple[Motion, ...] = ("moves left", "moves right")
VERTICAL: tuple[Motion, ...] = ("moves up", "moves down")
RESIZING: tuple[Motion, ...] = ("grows", "shrinks")
SPINNABLE: tuple[Shape, ...] = ("square", "triangle", "star", "heart")

RADIUS: dict[Size, float] = {"small": 0.10, "large": 0.17}
RADIUS_RESIZING = 0.185
WALL_WIDTH = 0.26
"""Width of the occluding wall in short sides of the frame: hides a small object whole."""

_GAP = 0.03
_EDGE = 0.01
_CHECK = laws.clip_times(17)


@dataclass(frozen=True, kw_only=True)
class Object:
    """One shape with one motion. The attributes come first; the floats after them are never named in a caption.

    `size` is None where the motion changes it (grows, shrinks). `x`, `y` in [0, 1] (y down) are the start of a straight
    path, the floor hit of a bounce, the middle of a circle, else the place. `radius` (short sides of the frame) is the
    largest over the clip. `travel` is the length of a straight path, a bounce's height or a circle's radius, or the
    ratio of smallest to largest radius; `turns` counts bounces or turns (positive: clockwise) in two seconds; `phase`
    is where in a turn it starts.
    """

    shape: Shape
    color: Color
    size: Size | None
    motion: Motion
    x: float
    y: float
    radius: float
    travel: float = 0.0
    turns: float = 0.0
    phase: float = 0.0


@dataclass(frozen=True, kw_only=True)
class Scene:
    """Everything in a clip. `background_phase` (turns) places the bands of a graded background; `camera_amount` is
    how far a pan goes (short sides) or a zoom departs from 1; `wall_x` in [0, 1] is the middle of the wall. With
    `occluder`, the first object passes behind the wall and comes out again."""

    objects: tuple[Object, ...]
    background: BackgroundKind
    background_color: BackgroundColor
    camera: Camera = "still"
    light: Light = "steady"
    occluder: bool = False
    background_phase: float = 0.0
    camera_amount: float = 0.0
    wall_x: float = 0.5
    seed: int = 0

    @property
    def held_out(self) -> bool:
        """Whether any object has a pair that training never sees."""
        return any(is_held_out(o.color, o.shape, o.motion) for o in self.objects)


T = TypeVar("T")


class _Draw:
    """Random numbers from the raw words of PCG64, the one stream NumPy promises never to change."""

    def __init__(self, seed: int, stream: int):
        self._bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(stream,)))

    def uniform(self, low: float = 0.0, high: float = 1.0) -> float:
        return low + (high - low) * ((int(self._bits.random_raw()) >> 11) * 2.0**-53)

    def chance(self, probability: float) -> bool:
        return self.uniform() < probability

    def pick(self, values: Sequence[T]) -> T:
        return values[int(self.uniform() * len(values))]

    def sign(self) -> float:
        return 1.0 if self.chance(0.5) else -1.0


_VALUES: dict[str, Sequence[Any]] = {
    "objects": (1, 2, 3),
    "shape": SHAPES,
    "color": COLORS,
    "size": SIZES,
    "motion": MOTIONS,
    "background": BACKGROUND_KINDS,
    "background_color": BACKGROUND_COLORS,
    "camera": CAMERAS,
    "light": LIGHTS,
    "occluder": (False, True),
}


def _check(split: str, want: dict[str, Any]) -> None:
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}.")
    for name, value in want.items():
        if name not in _VALUES:
            raise ValueError(f"constraint {name!r} is unknown: choose from {', '.join(_VALUES)}.")
        if value not in _VALUES[name]:
            raise ValueError(f"{name}={value!r} is not in the world: choose one of {_VALUES[name]}.")
    shape, color, size, motion = (want.get(k) for k in ("shape", "color", "size", "motion"))
    camera, background, occluder = (want.get(k) for k in ("camera", "background", "occluder"))
    moving = camera not in (None, "still")
    clashes = {
        f"a {shape} looks the same while it spins: choose one of {', '.join(SPINNABLE)}.": motion == "spins"
        and shape not in (None, *SPINNABLE),
        f"an object that {motion} has no one size: leave out size={size!r}.": size is not None
        and motion in RESIZING,
        f"the camera moves only before a graded background: leave out background={background!r}.": moving
        and background == "plain",
        f"only an object that moves left or right passes behind the wall, not motion={motion!r}.": bool(
            occluder
        )
        and motion not in (None, *HORIZONTAL),
        f"a wall stands only before a still camera: leave out camera={camera!r}.": bool(occluder) and moving,
        f"camera={camera!r} needs at most two objects, not 3.": moving and want.get("objects") == 3,
        f"{color} {shape} {motion} is held out of training: use split='all'.": split == "train"
        and ((color, shape) in HELD_OUT_COLOR_SHAPE or (shape, motion) in HELD_OUT_SHAPE_MOTION),
    }
    for message, clash in clashes.items():
        if clash:
            raise ValueError(message)


def _attributes(
    draw: _Draw, want: dict[str, Any], motions: Sequence[Motion], large: float, taken: set[Color], split: str
) -> Object | None:
    """One object's attributes, without a place; None where they clash with each other or with the split."""
    pairs = len(HELD_OUT_COLOR_SHAPE)
    shape, color, motion = draw.pick(SHAPES), draw.pick(COLORS), draw.pick(motions)
    if motion == "spins":
        shape = draw.pick(SPINNABLE)
    if split == "held_out":
        # A pair is imposed rather than waited for, so that each of them comes equally often.
        k = int(draw.uniform() * (pairs + len(HELD_OUT_SHAPE_MOTION)))
        if k < pairs:
            color, shape = HELD_OUT_COLOR_SHAPE[k]  # type: ignore[assignment]
        else:
            shape, motion = HELD_OUT_SHAPE_MOTION[k - pairs]  # type: ignore[assignment]
    shape, color, motion = want.get("shape", shape), want.get("color", color), want.get("motion", motion)
    size = want.get("size", "large" if draw.chance(large) else "small")
    if motion in RESIZING:
        if "size" in want:
            return None
        size = None
    if motion not in motions or color in taken or (motion == "spins" and shape not in SPINNABLE):
        return None
    if (split != "all") and is_held_out(color, shape, motion) != (split == "held_out"):
        return None
    return Object(shape=shape, color=color, size=size, motion=motion, x=0.5, y=0.5, radius=0.1)


def _place(draw: _Draw, bare: Object, panned: bool, slack: float) -> Object:
    """`bare` with places, speeds and phases, drawn so that it is likely in view; `slack` widens it for a camera."""
    radius = (RADIUS_RESIZING if bare.size is None else RADIUS[bare.size]) * draw.uniform(0.92, 1.08)
    margin = laws.EXTENT * radius + _EDGE
    low, high = margin - slack, 1.0 - margin + slack
    x, y, travel, turns, phase = draw.uniform(low, high), draw.uniform(low, high), 0.0, 0.0, 0.0
    motion = bare.motion
    if motion in HORIZONTAL or motion in VERTICAL:
        least = 0.24 if panned and motion in HORIZONTAL else 0.40
        travel = draw.uniform(least, 1.0 - 2.0 * margin)
        start = draw.uniform(low, high - travel)
        start = start + travel if motion in ("moves left", "moves up") else start
        x, y = (start, y) if motion in HORIZONTAL else (x, start)
    elif motion == "bounces":
        y = 1.0 - margin - draw.uniform(0.0, 0.06)
        travel = draw.uniform(0.36, y - margin)
        turns, phase = draw.uniform(1.75, 2.25), draw.uniform(0.3, 0.7)
    elif motion == "circles around":
        travel = draw.uniform(0.18, 0.26)
        x, y = draw.uniform(low + travel, high - travel), draw.uniform(low + travel, high - travel)
        turns, phase = draw.sign() * draw.uniform(1.0, 1.25), draw.uniform()
    elif motion == "spins":
        turns, phase = draw.sign() * draw.uniform(0.6, 0.9), draw.uniform()
    elif motion in RESIZING:
        travel = draw.uniform(0.40, 0.46)
    values = dict(x=x, y=y, radius=radius, travel=travel, turns=turns, phase=phase)
    return Object(shape=bare.shape, color=bare.color, size=bare.size, motion=motion, **values)


def _fits(
    obj: Object, camera: laws.CameraTrack, others: Sequence[laws.Track], wall_x: float | None, *, behind: bool
) -> laws.Track | None:
    """The world track of `obj` if it stays in view, clear of `others` and right with the wall, else None."""
    world = laws.object_track(obj, _CHECK)
    seen = laws.screen_track(world, camera)
    reach = laws.EXTENT * seen.radius
    room = 0.5 - reach - 0.5 * _EDGE
    if (np.abs(seen.x) > room).any() or (np.abs(seen.y) > room).any():
        return None
    reach = laws.EXTENT * world.radius
    for other in others:
        dx, dy, clear = world.x - other.x, world.y - other.y, reach + laws.EXTENT * other.radius + _GAP
        if (dx * dx + dy * dy < clear * clear).any():
            return None
    if wall_x is not None:
        beside = np.abs(world.x - (wall_x - 0.5)) - 0.5 * WALL_WIDTH
        if behind:
            # Both ends of the path show (nearly) the whole object, on either side of the wall.
            ends = beside[[0, -1]] - world.radius[[0, -1]]
            crosses = (world.x[0] < wall_x - 0.5) != (world.x[-1] < wall_x - 0.5)
            if (
                not crosses
                or (ends < -0.6 * obj.radius).any()
                or (obj.size == "small" and (ends < 0.0).any())
            ):
                return None
        elif (beside < reach + _GAP).any():
            return None
    return world


def _attempt(draw: _Draw, count: int, seed: int, split: str, want: dict[str, Any]) -> Scene | None:
    occluder = want.get("occluder", draw.chance(0.12))
    camera: Camera = "still" if occluder or count == 3 or draw.chance(0.68) else draw.pick(CAMERAS[1:])
    camera = want.get("camera", camera)
    graded = camera != "still" or draw.chance(0.2)
    background = want.get("background", "graded" if graded else "plain")
    color = want.get("background_color", draw.pick(BACKGROUND_COLORS))
    light: Light = want.get("light", "steady" if draw.chance(0.7) else draw.pick(LIGHTS[1:]))
    if (camera != "still" and (background == "plain" or count == 3)) or (occluder and camera != "still"):
        return None
    panned, zoomed = camera.startswith("pans"), camera.startswith("zooms")
    amount = draw.uniform(0.25, 0.30) if panned else draw.uniform(0.19, 0.23) if zoomed else 0.0
    wall_x = draw.uniform(0.46, 0.54)
    phase = draw.uniform()

    held = int(draw.uniform() * count) if not want.keys() & {"shape", "color", "motion"} else 0
    bare: list[Object] = []
    for i in range(count):
        part = split if split != "held_out" else ("held_out" if i == held else "all")
        motions = HORIZONTAL if occluder and i == 0 else MOTIONS
        mine = want if i == 0 else {}
        large = (0.5, 0.4, 0.25)[count - 1]
        obj = _attributes(draw, mine, motions, large, {o.color for o in bare}, part)
        if obj is None:
            return None
        bare.append(obj)

    scene = Scene(
        objects=tuple(bare),
        background=background,
        background_color=color,
        camera=camera,
        light=light,
        occluder=occluder,
        background_phase=phase,
        camera_amount=amount,
        wall_x=wall_x if occluder else 0.5,
        seed=seed,
    )
    view = laws.camera_track(scene, _CHECK)
    slack = 0.1 if camera != "still" else 0.0
    for _ in range(6):
        placed: list[Object] = []
        tracks: list[laws.Track] = []
        for i, one in enumerate(bare):
            for _ in range(16):
                obj = _place(draw, one, panned, slack)
                track = _fits(obj, view, tracks, wall_x if occluder else None, behind=i == 0)
                if track is not None:
                    placed.append(obj)
                    tracks.append(track)
                    break
            else:
                break
        if len(placed) == count:
            return Scene(**{**scene.__dict__, "objects": tuple(placed)})
    return None


def draw_scene(seed: int, *, split: Split = "train", **constraints: Any) -> Scene:
    """The scene that an integer names: the same on any machine.

    Args:
        seed: a whole number >= 0.
        split: "train" has no held-out pair on any object; "held_out" has one at least; "all" is free.
        constraints: fixed values: objects (1 to 3), background, background_color, camera, light, occluder, and of the
            first object shape, color, size, motion.

    Raises:
        ValueError: a value outside the world, or constraints that no scene can meet together.
    """
    _check(split, constraints)
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: a scene's seed is a whole number from 0.")
    draw = _Draw(seed, SPLITS.index(split))
    u = draw.uniform()
    count = constraints.get("objects", 1 if u < 0.6 else 2 if u < 0.9 else 3)
    if count == 3 and constraints.get("camera", "still") != "still":
        count = 2
    for _ in range(5000):
        scene = _attempt(draw, count, seed, split, constraints)
        if scene is not None:
            return scene
    raise ValueError(f"no scene of split {split!r} has {constraints}: ask for fewer things together.")
