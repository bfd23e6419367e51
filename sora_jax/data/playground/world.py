"""What there is in the playground world: its words, and the records that describe a scene.

A scene is one to three solid shapes of different colours, each with one motion, before a plain or graded
background, under a light, seen by a camera, sometimes with a gray wall in front.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from sora_jax.data.playground.splits import is_held_out

__all__ = [
    "BACKGROUND_COLORS",
    "BACKGROUND_KINDS",
    "CAMERAS",
    "COLORS",
    "EXTRA_SHAPES",
    "HORIZONTAL",
    "LIGHTS",
    "MOTIONS",
    "RADIUS",
    "RADIUS_RESIZING",
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
]

Shape = Literal["circle", "square", "triangle", "star", "ring", "heart"]
ExtraShape = Literal["crescent"]
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
EXTRA_SHAPES: tuple[ExtraShape, ...] = get_args(ExtraShape)
"""Shapes that a scene has only where they are asked for: something for a fine-tuned model to learn."""
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

RADIUS: dict[Size, float] = {"small": 0.12, "large": 0.17}
"""Radius of each size, in short sides of the frame; an object's own is within 8 % of it."""
RADIUS_RESIZING = 0.185
"""Largest radius of an object that grows or shrinks, within 8 %."""
WALL_WIDTH = 0.30
"""Width of the occluding wall in short sides of the frame: hides a small object whole."""


@dataclass(frozen=True, kw_only=True)
class Object:
    """One shape with one motion: the attributes first, then floats that no caption names.

    `size` is None where the motion changes it (grows, shrinks). `x`, `y` in [0, 1] (y down) are the start of
    a straight path, the floor of a bounce, the middle of a circle, else the place. `radius` (short sides of
    the frame) is the largest over the clip. `travel` is the length of a straight path, a bounce's height or
    a circle's radius, or the ratio of smallest to largest radius. `turns` counts bounces, or turns
    (clockwise where positive), in two seconds; `phase` is where in a turn the clip starts.
    """

    shape: Shape | ExtraShape
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
    """Everything in a clip.

    `background_phase` (turns) places the bands of a graded background; `camera_amount` is how far a pan goes
    (short sides of the frame) or how far a zoom departs from 1 at its ends; `wall_x` in [0, 1] is the middle
    of the wall. With `occluder`, the first object passes behind that wall and comes out again.
    """

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
