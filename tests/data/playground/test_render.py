"""Pixels: shapes where the scene says, anti-aliased, at any size, the same everywhere."""

import hashlib

import numpy as np
import pytest

from sora_jax.data.playground.motion import DIM, EXTENT
from sora_jax.data.playground.render import BACKGROUND_RGB, COLOR_RGB, DISTANCE, render
from sora_jax.data.playground.scene import BACKGROUND_COLORS, COLORS, SHAPES, Object, Scene, draw_scene

AREAS = {"circle": 3.1416, "square": 2.56, "triangle": 1.7181, "star": 1.6898, "ring": 2.1564, "heart": 2.5}


def one(shape="circle", motion="stays still", color="red", radius=0.17, **scene):
    obj = Object(
        shape=shape,
        color=color,
        size="large",
        motion=motion,
        x=0.5,
        y=0.5,
        radius=radius,
        travel=0.3,
        turns=0.7,
    )
    values = {"background": "plain", "background_color": "black"} | scene
    return Scene(objects=(obj,), **values)


@pytest.mark.parametrize("size", [(64, 64, 17, 8.0), (48, 80, 5, 24.0), (90, 40, 1, 8.0), (33, 17, 2, 30.0)])
def test_any_size_and_length(size):
    height, width, frames, fps = size
    video = render(draw_scene(0, split="all"), height=height, width=width, frames=frames, fps=fps)
    assert video.shape == (frames, height, width, 3)
    assert video.dtype == np.uint8


@pytest.mark.parametrize("shape", SHAPES)
def test_coverage_adds_up_to_the_shape(shape):
    frame = render(one(shape, color="white", background_color="black"), frames=1, height=128, width=128)[0]
    black, white = BACKGROUND_RGB["black"][0], COLOR_RGB["white"][0]
    covered = ((frame[..., 0].astype(float) - black) / (white - black)).sum()
    assert covered == pytest.approx(AREAS[shape] * (0.17 * 128) ** 2, rel=0.015)


@pytest.mark.parametrize("shape", SHAPES)
def test_shapes_stay_within_their_extent_and_have_unit_slope(shape):
    x, y = np.meshgrid(np.linspace(-2, 2, 401), np.linspace(-2, 2, 401))
    distance = DISTANCE[shape](x, y)
    assert (np.sqrt(x * x + y * y)[distance < 0] <= EXTENT).all()
    slope = np.hypot(*np.gradient(distance, 0.01))
    near = (np.abs(distance) < 0.05) & (slope > 0.5)
    assert np.abs(slope[near] - 1).mean() < 0.05
    assert near.sum() > 500


def test_colors_are_exact_inside():
    for color in COLORS:
        assert tuple(render(one(color=color), frames=1)[0, 32, 32]) == COLOR_RGB[color]
    for color in BACKGROUND_COLORS:
        assert tuple(render(one(background_color=color), frames=1)[0, 2, 2]) == BACKGROUND_RGB[color]


def test_colors_keep_their_distance():
    objects, grounds = list(COLOR_RGB.values()), list(BACKGROUND_RGB.values())

    def nearest(a, b):
        return min(np.linalg.norm(np.subtract(p, q)) for p in a for q in b if p != q)

    assert nearest(objects, objects) > 80
    assert nearest(objects, grounds) > 110
    assert nearest(grounds, grounds) > 45


def test_the_light_dims_everything():
    video = render(one(light="gets dark", background_color="brown")).astype(float)
    np.testing.assert_allclose(video[-1], DIM * video[0], atol=1.0)
    np.testing.assert_array_equal(render(one(light="gets bright", background_color="brown")), video[::-1])


def test_a_pan_shifts_the_world_and_a_zoom_scales_it():
    graded = {"background": "graded", "background_color": "navy", "camera_amount": 0.25}
    pan = render(one(camera="pans right", **graded), frames=9).astype(int)
    # 0.25 of 64 pixels over the clip: the world goes left by 16 pixels.
    np.testing.assert_allclose(pan[-1][:, :48], pan[0][:, 16:], atol=1)
    zoom = render(one(camera="zooms in", **graded), frames=9)
    red = (zoom[..., 0] > 120).sum((1, 2))
    assert (np.diff(red) > 0).all()
    assert red[-1] / red[0] == pytest.approx((1.25 / 0.75) ** 2, rel=0.1)


def test_the_wall_hides_what_passes_behind():
    scene = draw_scene(
        5, occluder=True, objects=1, size="small", color="red", light="steady", background="plain"
    )
    video = render(scene).astype(int)
    red = (video[..., 0] - video[..., 1:].max(-1) > 100).sum((1, 2))
    assert red[0] > 60
    assert red[-1] > 60
    assert red.min() == 0


def test_the_rate_does_not_change_the_story():
    scene = draw_scene(9, split="all")
    slow, fast = render(scene, frames=17, fps=8.0), render(scene, frames=33, fps=16.0)
    np.testing.assert_array_equal(slow, fast[::2])


def test_long_clips_are_drawn_in_parts(monkeypatch):
    scene = draw_scene(11, split="all")
    whole = render(scene)
    monkeypatch.setattr("sora_jax.data.playground.render._CHUNK_PIXELS", 64 * 64 * 4)
    np.testing.assert_array_equal(render(scene), whole)


def test_golden_pixels():
    """Arithmetic here is exact in IEEE 754; coarse levels forgive what a compiler may still fuse."""
    digest = hashlib.sha256()
    for seed in range(12):
        video = render(draw_scene(seed, split="all")).astype(int)
        digest.update(((video + 8) // 16).astype(np.uint8).tobytes())
    assert digest.hexdigest()[:16] == GOLDEN, "pixels changed: shipped weights have learned the old ones"


GOLDEN = "49643501d1a8906c"


def test_sizes_must_be_positive():
    for name in ("height", "width", "frames", "fps"):
        with pytest.raises(ValueError, match=f"{name} 0 is not positive"):
            render(draw_scene(0), **{name: 0})
