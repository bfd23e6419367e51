import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.media import Clip, from_uint8, to_uint8


def test_every_byte_survives():
    values = np.arange(256, dtype=np.uint8)
    floats = from_uint8(values)
    assert (floats.min(), floats.max(), floats.dtype) == (-1.0, 1.0, np.float32)
    np.testing.assert_array_equal(to_uint8(floats), values)


def test_pixels_outside_are_clipped():
    np.testing.assert_array_equal(to_uint8(np.array([-3.0, 3.0, 0.0])), [0, 255, 128])


def test_a_clip_takes_device_arrays_in_any_float():
    clip = Clip(jnp.zeros((4, 2, 3, 3), jnp.bfloat16), 8)
    assert clip.frames.dtype == np.float32
    assert isinstance(clip.frames, np.ndarray)
    assert (clip.seconds, len(clip), clip.metadata) == (0.5, 4, {})


@pytest.mark.parametrize(
    ("frames", "fps", "match"),
    [
        (np.zeros((4, 8, 8)), 8, "shape"),
        (np.zeros((0, 8, 8, 3)), 8, "shape"),
        (np.zeros((4, 8, 8, 4)), 8, "shape"),
        (np.zeros((1, 8, 8, 3), np.uint8), 8, "from_uint8"),
        (np.full((1, 8, 8, 3), np.nan), 8, "finite"),
        (np.zeros((1, 8, 8, 3)), 0, "frame rate"),
        (np.zeros((1, 8, 8, 3)), float("inf"), "frame rate"),
    ],
)
def test_what_is_no_clip_is_refused(frames, fps, match):
    with pytest.raises(ValueError, match=match):
        Clip(frames, fps)
