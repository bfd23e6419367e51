import numpy as np
import pytest

from sora_jax.data.playground.oracle import read
from sora_jax.data.playground.oracle_shapes import fit_hidden
from sora_jax.data.playground.render import render
from sora_jax.data.playground.scene import CAMERAS, COLORS, LIGHTS, MOTIONS, SHAPES, SPINNABLE, draw_scene


def attributes(scene_or_reading):
    objects = sorted((o.color, o.shape, o.size, o.motion) for o in scene_or_reading.objects)
    names = ("background", "background_color", "camera", "light", "occluder")
    return objects, [getattr(scene_or_reading, name) for name in names]


@pytest.mark.parametrize("motion", MOTIONS)
def test_each_motion_of_each_shape(motion):
    for i, shape in enumerate(SPINNABLE if motion == "spins" else SHAPES):
        scene = draw_scene(7, split="all", objects=1, shape=shape, motion=motion, color=COLORS[i])
        assert attributes(read(render(scene))) == attributes(scene)


@pytest.mark.parametrize("camera", CAMERAS)
@pytest.mark.parametrize("light", LIGHTS)
def test_each_camera_in_each_light(camera, light):
    scene = draw_scene(11, split="all", camera=camera, light=light)
    assert attributes(read(render(scene))) == attributes(scene)


@pytest.mark.parametrize("size", [(64, 112), (96, 64), (160, 160), (48, 48)])
@pytest.mark.parametrize(("frames", "fps"), [(17, 8.0), (33, 8.0), (25, 16.0)])
def test_any_frame_and_length(size, frames, fps):
    for seed in (2, 3):
        scene = draw_scene(seed, split="all")
        video = render(scene, height=size[0], width=size[1], frames=frames, fps=fps)
        assert attributes(read(video, fps)) == attributes(scene)


def test_an_object_behind_a_wall_is_seen_from_its_parts():
    # In these the wall hides some of the object in (nearly) every frame.
    for seed in (1_000_000_086, 1_000_000_220, 1_000_000_347):
        scene = draw_scene(seed, split="all")
        assert scene.occluder
        assert attributes(read(render(scene))) == attributes(scene)


def test_hidden_columns_do_not_count():
    scene = draw_scene(
        1, split="all", objects=1, shape="heart", color="white", size="large", motion="stays still",
        background="plain", background_color="black", light="steady", occluder=False,
    )  # fmt: skip
    obj = scene.objects[0]
    alpha = (render(scene)[..., 0] / 255.0).astype(np.float32)
    wall = np.zeros(64, bool)
    wall[int(64 * obj.x) : int(64 * obj.x) + 16] = True
    shape, radius = fit_hidden(alpha * ~wall, wall, 64.0)
    assert shape == "heart"
    assert radius == pytest.approx(64 * obj.radius, rel=0.1)


def test_tracks_follow_the_object():
    scene = draw_scene(
        2, split="all", objects=1, motion="moves right", camera="still", occluder=False, size="small"
    )
    obj = scene.objects[0]
    track = read(render(scene)).objects[0].track
    assert track.shape == (17, 3)
    np.testing.assert_allclose(np.diff(track[:, 0]).mean() * 16, obj.travel, atol=0.02)
    np.testing.assert_allclose(track[:, 2], obj.radius, rtol=0.15)


def test_noise_and_blur_change_nothing():
    random = np.random.default_rng(0)
    for seed in range(20):
        scene = draw_scene(seed, split="all")
        video = render(scene).astype(np.float64)
        video[:, 1:-1] = 0.15 * video[:, :-2] + 0.7 * video[:, 1:-1] + 0.15 * video[:, 2:]
        video[:, :, 1:-1] = 0.15 * video[:, :, :-2] + 0.7 * video[:, :, 1:-1] + 0.15 * video[:, :, 2:]
        video += random.normal(0.0, 4.0, video.shape)
        assert attributes(read(np.clip(video, 0, 255).astype(np.uint8))) == attributes(scene), seed


def test_one_frame_has_no_motion_camera_or_light():
    scene = draw_scene(4, split="all", motion="stays still", light="steady", camera="still")
    reading = read(render(scene, frames=1))
    assert (reading.camera, reading.light, reading.objects[0].motion) == (None, None, None)
    assert {(o.color, o.shape) for o in reading.objects} == {(o.color, o.shape) for o in scene.objects}


@pytest.mark.parametrize("value", [0, 14, 128, 255])
def test_an_empty_clip_has_no_objects(value):
    assert read(np.full((17, 64, 64, 3), value, np.uint8)).objects == ()


def test_pure_noise_is_read_without_complaint():
    random = np.random.default_rng(1)
    for size in ((64, 64), (40, 72)):
        read(random.integers(0, 256, (9, *size, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "frames",
    [
        np.zeros((17, 64, 64), np.uint8),
        np.zeros((2, 64, 64, 3), np.float32),
        np.zeros((0, 64, 64, 3), np.uint8),
    ],
)
def test_what_is_no_clip(frames):
    with pytest.raises(ValueError, match="reads uint8"):
        read(frames)


def test_too_small_a_clip():
    with pytest.raises(ValueError, match="32 pixels"):
        read(np.zeros((2, 16, 64, 3), np.uint8))
