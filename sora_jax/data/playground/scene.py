"""A scene drawn from an integer: the same integer, the same scene, on any machine.

Every attribute can be read from the pixels: a camera moves only before a graded background (whose bands are
fixed in the world), only shapes without full symmetry spin, sizes leave a clear gap, objects stay in view
and never touch, and no background colour looks like an object's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from sora_jax.data.playground import motion as laws
from sora_jax.data.playground.chance import Chance
from sora_jax.data.playground.splits import (
    HELD_OUT_COLOR_SHAPE,
    HELD_OUT_SHAPE_MOTION,
    SPLITS,
    Split,
    is_held_out,
)
from sora_jax.data.playground.world import (
    BACKGROUND_COLORS,
    BACKGROUND_KINDS,
    CAMERAS,
    COLORS,
    EXTRA_SHAPES,
    HORIZONTAL,
    LIGHTS,
    MOTIONS,
    RADIUS,
    RADIUS_RESIZING,
    RESIZING,
    SHAPES,
    SIZES,
    SPINNABLE,
    VERTICAL,
    WALL_WIDTH,
    BackgroundColor,
    BackgroundKind,
    Camera,
    Color,
    ExtraShape,
    Light,
    Motion,
    Object,
    Scene,
    Shape,
    Size,
)

__all__ = [
    "BACKGROUND_COLORS",
    "BACKGROUND_KINDS",
    "CAMERAS",
    "COLORS",
    "EXTRA_SHAPES",
    "HORIZONTAL",
    "LIGHTS",
    "MOTIONS",
    "RESIZING",
    "SHAPES",
    "SIZES",
    "SPINNABLE",
    "VERTICAL",
    "WALL_WIDTH",
    "BackgroundColor",
    "BackgroundKind",
    "Camera",
    "Color",
    "ExtraShape",
    "Light",
    "Motion",
    "Object",
    "Scene",
    "Shape",
    "Size",
    "draw_scene",
]

_GAP = 0.03
_EDGE = 0.01
_CANDIDATES = 24
# Wide paths are often redrawn where objects share the frame: asked for more, they come out about as often.
_MOTIONS_TOGETHER: tuple[Motion, ...] = (*MOTIONS, *MOTIONS, "circles around", "circles around", "bounces")
_HARD_TO_PLACE: tuple[Motion, ...] = ("circles around", "bounces", *HORIZONTAL, *VERTICAL)
_CHECK = laws.clip_times(17)

_VALUES: dict[str, Sequence[Any]] = {
    "objects": (1, 2, 3),
    "shape": (*SHAPES, *EXTRA_SHAPES),
    "color": COLORS,
    "size": SIZES,
    "motion": MOTIONS,
    "background": BACKGROUND_KINDS,
    "background_color": BACKGROUND_COLORS,
    "camera": CAMERAS,
    "light": LIGHTS,
    "occluder": (False, True),
}


def _check(seed: int, split: str, want: dict[str, Any]) -> None:
    if seed < 0:
        raise ValueError(f"seed {seed} is negative: a scene's seed is a whole number from 0.")
    if split not in SPLITS:
        raise ValueError(f"split {split!r} is unknown: choose one of {', '.join(SPLITS)}.")
    for name, value in want.items():
        if name not in _VALUES:
            raise ValueError(f"constraint {name!r} is unknown: choose from {', '.join(_VALUES)}.")
        if value not in _VALUES[name]:
            raise ValueError(f"{name}={value!r} is not in the world: choose one of {_VALUES[name]}.")
    shape, color, size, motion = (want.get(k) for k in ("shape", "color", "size", "motion"))
    camera, background, occluder = (want.get(k) for k in ("camera", "background", "occluder"))
    panning = camera not in (None, "still")
    clash = ""
    if motion == "spins" and shape not in (None, *SPINNABLE):
        why = "has no scene in which it spins" if shape in EXTRA_SHAPES else "looks the same while it spins"
        clash = f"a {shape} {why}: choose one of {', '.join(SPINNABLE)}."
    elif size is not None and motion in RESIZING:
        clash = f"an object that {motion} has no one size: leave out size={size!r}."
    elif panning and background == "plain":
        clash = f"camera={camera!r} shows only before a graded background: leave out background='plain'."
    elif panning and want.get("objects") == 3:
        clash = f"camera={camera!r} goes with at most two objects: choose objects=1 or 2."
    elif occluder and panning:
        clash = f"a wall stands only before a still camera: leave out camera={camera!r}."
    elif occluder and motion not in (None, *HORIZONTAL):
        clash = f"motion={motion!r} never passes behind a wall: choose one of {', '.join(HORIZONTAL)}."
    elif split == "train" and (
        (color, shape) in HELD_OUT_COLOR_SHAPE or (shape, motion) in HELD_OUT_SHAPE_MOTION
    ):
        clash = f"{color=}, {shape=}, {motion=} has a pair held out of training: use split='all'."
    if clash:
        raise ValueError(clash)


def _surroundings(draw: Chance, seed: int, count: int, want: dict[str, Any]) -> Scene:
    """A scene with everything but its objects."""
    camera: Camera = "still" if count == 3 or draw.happens(0.66) else draw.pick(CAMERAS[1:])
    light: Light = "steady" if draw.happens(0.7) else draw.pick(LIGHTS[1:])
    graded, color = draw.happens(0.25), draw.pick(BACKGROUND_COLORS)
    pan, zoom, phase, wall_x = (draw.uniform(*r) for r in ((0.25, 0.30), (0.19, 0.23), (0, 1), (0.46, 0.54)))
    occluder = draw.happens(0.12)
    if want.get("motion", "moves left") not in HORIZONTAL or want.get("camera", "still") != "still":
        occluder = False
    occluder = want.get("occluder", occluder)
    if occluder or want.get("background") == "plain":
        camera = "still"
    camera = want.get("camera", camera)
    background = "graded" if camera != "still" else want.get("background", "graded" if graded else "plain")
    return Scene(
        objects=(),
        background=background,
        background_color=want.get("background_color", color),
        camera=camera,
        light=want.get("light", light),
        occluder=occluder,
        background_phase=phase,
        camera_amount=pan if camera.startswith("pans") else zoom if camera.startswith("zooms") else 0.0,
        wall_x=wall_x if occluder else 0.5,
        seed=seed,
    )


def _attributes(
    draw: Chance, want: dict[str, Any], motions: Sequence[Motion], large: float, split: Split
) -> Object | None:
    """One object's attributes, not yet in its place; None where they clash with each other or `split`."""
    shape: Any = draw.pick(SHAPES)
    color: Any = draw.pick(COLORS)
    motion: Any = draw.pick(motions)
    size: Size | None = "large" if draw.happens(large) else "small"
    if motion == "spins":
        shape = draw.pick(SPINNABLE)
    if split == "held_out":
        # A pair is imposed rather than waited for, so that each of them comes about equally often.
        pair = draw.pick(HELD_OUT_COLOR_SHAPE + HELD_OUT_SHAPE_MOTION)
        if pair[0] in COLORS:
            color, shape = pair
        else:
            shape, motion = pair
    shape, color, motion = want.get("shape", shape), want.get("color", color), want.get("motion", motion)
    size = None if motion in RESIZING else want.get("size", size)
    wrong = motion not in motions or (motion == "spins" and shape not in SPINNABLE)
    if wrong or (split != "all" and is_held_out(color, shape, motion) != (split == "held_out")):
        return None
    return Object(shape=shape, color=color, size=size, motion=motion, x=0.5, y=0.5, radius=0.1)


def _cast(
    draw: Chance, count: int, occluder: bool, split: Split, want: dict[str, Any]
) -> list[Object] | None:
    """The attributes of all objects, in different colours; None where they clash."""
    named = bool(want.keys() & {"shape", "color", "motion"})
    held = 0 if named else draw.pick(range(count))
    cast: list[Object] = []
    for i in range(count):
        part = "all" if split == "held_out" and i != held else split
        motions: Any = HORIZONTAL if occluder and i == 0 else MOTIONS if count == 1 else _MOTIONS_TOGETHER
        if i == 0 and "size" in want:
            motions = tuple(m for m in motions if m not in RESIZING)
        obj = _attributes(draw, want if i == 0 else {}, motions, (0.5, 0.4, 0.25)[count - 1], part)
        if obj is None or obj.color in {o.color for o in cast}:
            return None
        cast.append(obj)
    return cast


def _places(draw: Chance, obj: Object, camera: Camera) -> laws.Path:
    """Many candidates for the floats of an object, each field float64[n, 1]."""
    a, b, c, d, e, f, g = draw.uniforms(7, _CANDIDATES)[:, :, None]
    slack = 0.0 if camera == "still" else 0.1
    radius = (RADIUS_RESIZING if obj.size is None else RADIUS[obj.size]) * (0.92 + 0.16 * a)
    margin = laws.EXTENT * radius + _EDGE
    low, high = margin - slack, 1.0 - margin + slack
    x, y, zero = low + (high - low) * b, low + (high - low) * c, np.zeros_like(a)
    travel, turns, phase, sign = zero, zero, zero, np.where(f < 0.5, -1.0, 1.0)
    motion = obj.motion
    if motion in HORIZONTAL or motion in VERTICAL:
        least = 0.24 if camera.startswith("pans") and motion in HORIZONTAL else 0.40
        travel = least + (1.0 - 2.0 * margin - least) * d
        first = travel if motion in ("moves left", "moves up") else zero
        if motion in HORIZONTAL:
            x = low + (high - low - travel) * b + first
        else:
            y = low + (high - low - travel) * c + first
    elif motion == "bounces":
        y = 1.0 - margin - 0.06 * c
        travel = 0.30 + 0.14 * d
        turns, phase = 1.0 + 0.3 * e, 0.35 + 0.3 * g
    elif motion == "circles around":
        travel = 0.16 + 0.06 * d
        x, y = low + travel + (high - low - 2.0 * travel) * b, low + travel + (high - low - 2.0 * travel) * c
        turns, phase = sign * (0.75 + 0.25 * e), g
    elif motion == "spins":
        # Four in five start upright, as everything else is: no caption says how a shape is turned at first.
        turns, phase = sign * (0.5 + 0.05 * e), np.maximum(0.0, 5.0 * g - 4.0)
    elif motion in RESIZING:
        travel = 0.40 + 0.06 * d
    return laws.Path(x, y, radius, travel, turns, phase)


def _fits(
    scene: Scene, obj: Object, world: laws.Track, others: Sequence[laws.Track], *, behind: bool
) -> np.ndarray:
    """Which candidates (tracks float64[n, t]) are in view, clear of `others` and of the wall: bool[n]."""
    seen = laws.screen_track(world, laws.camera_track(scene, _CHECK))
    room = 0.5 - laws.EXTENT * seen.radius - 0.5 * _EDGE
    fits = ((np.abs(seen.x) <= room) & (np.abs(seen.y) <= room)).all(-1)
    reach = laws.EXTENT * world.radius
    for other in others:
        dx, dy, clear = world.x - other.x, world.y - other.y, reach + laws.EXTENT * other.radius + _GAP
        fits &= (dx * dx + dy * dy >= clear * clear).all(-1)
    if scene.occluder:
        offset = world.x - (scene.wall_x - 0.5)
        beside = np.abs(offset) - 0.5 * WALL_WIDTH
        if behind:
            # The path's ends, one on either side, show a small object whole and a large one nearly whole.
            fits &= (offset[:, 0] < 0) != (offset[:, -1] < 0)
            hidden = 0.0 if obj.size == "small" else 0.6
            fits &= (beside[:, [0, -1]] >= (1.0 - hidden) * world.radius[:, [0, -1]]).all(-1)
        else:
            fits &= (beside >= reach + _GAP).all(-1)
    return np.asarray(fits)


def _placed(draw: Chance, scene: Scene, cast: Sequence[Object]) -> tuple[Object, ...] | None:
    """The objects of `cast` in places where they fit together, or None."""
    placed: dict[int, Object] = {}
    tracks: list[laws.Track] = []

    def ease(i: int) -> int:
        motion = cast[i].motion
        hard = _HARD_TO_PLACE.index(motion) if motion in _HARD_TO_PLACE else len(_HARD_TO_PLACE)
        return -1 if scene.occluder and i == 0 else hard

    for i in sorted(range(len(cast)), key=ease):
        obj = cast[i]
        for _ in range(3):
            path = _places(draw, obj, scene.camera)
            world = laws.path_track(obj.motion, path, _CHECK)
            fits = _fits(scene, obj, world, tracks, behind=i == 0)
            if fits.any():
                break
        else:
            return None
        k = int(fits.argmax())
        tracks.append(laws.Track(*(v[k] for v in world)))
        floats = {name: float(v[k, 0]) for name, v in path._asdict().items()}
        placed[i] = Object(shape=obj.shape, color=obj.color, size=obj.size, motion=obj.motion, **floats)
    return tuple(placed[i] for i in range(len(cast)))


def draw_scene(seed: int, *, split: Split = "train", **constraints: Any) -> Scene:
    """The scene that an integer names: the same on any machine.

    Args:
        seed: a whole number >= 0.
        split: "train" has no held-out pair on any object; "held_out" has one at least; "all" is free.
        constraints: fixed values: `objects` (1 to 3), `background`, `background_color`, `camera`, `light`,
            `occluder`, and of the first object `shape` (one of EXTRA_SHAPES too, which nothing else draws),
            `color`, `size`, `motion`.

    Raises:
        ValueError: a value outside the world, or constraints that no scene can meet together.
    """
    _check(seed, split, constraints)
    draw = Chance(seed, SPLITS.index(split))
    u = draw.uniform()
    count = constraints.get("objects", 1 if u < 0.6 else 2 if u < 0.9 else 3)
    if count == 3 and constraints.get("camera", "still") != "still":
        count = 2
    scene = _surroundings(draw, seed, count, constraints)
    for _ in range(3000):
        cast = _cast(draw, count, scene.occluder, split, constraints)
        for _ in range(3 if cast else 0):
            objects = _placed(draw, scene, cast or ())
            if objects is not None:
                return Scene(**{**scene.__dict__, "objects": objects})
    raise ValueError(f"no scene of split {split!r} meets {constraints}: ask for fewer things together.")
