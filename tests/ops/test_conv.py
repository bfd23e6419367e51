import jax
import jax.numpy as jnp
import numpy as np
import pytest

from sora_jax.ops import conv
from sora_jax.ops.pixel_shuffle import average_down, duplicate_up, pixel_shuffle, pixel_unshuffle


def by_definition(x, kernel):
    """Σ over the window in float64, with zeros around each frame."""
    k, kh, kw = kernel.shape[:3]
    b, t, h, w, _ = x.shape
    x = np.pad(np.float64(x), ((0, 0), (0, 0), (kh // 2,) * 2, (kw // 2,) * 2, (0, 0)))
    y = np.zeros((b, t - k + 1, h, w, kernel.shape[-1]))
    for i, m, n in np.ndindex(k, kh, kw):
        y += x[:, i : i + t - k + 1, m : m + h, n : n + w] @ np.float64(kernel[i, m, n])
    return y


def draw(*shapes):
    generator = np.random.default_rng(0)
    return [jnp.asarray(generator.standard_normal(shape), jnp.float32) for shape in shapes]


LOWERINGS = [conv.native, conv.taps, conv.plain_taps, conv.patches, conv.conv3d]


@pytest.mark.parametrize("size", [(1, 1), (2, 5), (5, 3)])
@pytest.mark.parametrize("lowering", LOWERINGS)
def test_every_lowering_is_the_convolution(lowering, size):
    x, kernel = draw((2, 5, *size, 3), (3, 3, 3, 3, 4))
    np.testing.assert_allclose(jax.jit(lowering)(x, kernel), by_definition(x, kernel), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("lowering", [conv.taps, conv.patches, conv.conv3d])
def test_gradients_are_those_of_the_native_convolution(lowering):
    x, kernel, dy = draw((2, 5, 3, 4, 3), (3, 3, 3, 3, 2), (2, 3, 3, 4, 2))

    def gradients(x, kernel, dy, lowering):
        return jax.vjp(lowering, x, kernel)[1](dy)

    gradients = jax.jit(gradients, static_argnames="lowering")
    for got, want in zip(
        gradients(x, kernel, dy, lowering), gradients(x, kernel, dy, conv.native), strict=True
    ):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


def test_a_clip_shorter_than_the_kernel_gives_no_frames():
    x, kernel = draw((1, 2, 4, 4, 3), (3, 3, 3, 3, 2))
    assert conv.conv3d(x, kernel).shape == (1, 0, 4, 4, 2)
    assert conv.temporal_conv(x, kernel[:, 0, 0], stride=2).shape == (1, 0, 4, 4, 2)


@pytest.mark.parametrize(("frames", "stride"), [(3, 1), (6, 1), (7, 2), (8, 2)])
def test_temporal_convolution(frames, stride):
    x, kernel = draw((1, frames, 2, 3, 4), (3, 4, 5))
    want = by_definition(x, kernel[:, None, None])[:, ::stride]
    np.testing.assert_allclose(conv.temporal_conv(x, kernel, stride), want, rtol=1e-5, atol=1e-5)


def test_platforms_take_their_own_lowering():
    x, kernel = draw((1, 4, 4, 4, 3), (3, 3, 3, 3, 2))
    program = jax.jit(conv.conv3d).trace(x, kernel)
    # A native 3-D convolution names three spatial dimensions.
    assert "[b, 0, 1, 2, f]" in program.lower(lowering_platforms=("tpu",)).as_text()
    assert "[b, 0, 1, 2, f]" not in program.lower(lowering_platforms=("cpu",)).as_text()


@pytest.mark.parametrize("patch", [1, 2, 3])
def test_pixel_shuffle_undoes_unshuffle(patch):
    (x,) = draw((2, 3, 6, 12, 3))
    folded = pixel_unshuffle(x, patch)
    assert folded.shape == (2, 3, 6 // patch, 12 // patch, 3 * patch**2)
    np.testing.assert_array_equal(pixel_shuffle(folded, patch), x)


def test_unshuffle_orders_channels_by_column_then_row():
    (x,) = draw((1, 1, 4, 6, 3))
    folded = pixel_unshuffle(x, 2)
    for c, j, i in np.ndindex(3, 2, 2):
        np.testing.assert_array_equal(folded[0, 0, :, :, (c * 2 + j) * 2 + i], x[0, 0, i::2, j::2, c])


def test_average_down_keeps_the_first_frame_apart():
    x = jnp.arange(5, dtype=jnp.float32).reshape(1, 5, 1, 1, 1) + 1
    # Pairs are (zero, 1), (2, 3), (4, 5).
    np.testing.assert_allclose(average_down(x, 1, 2, 1)[0, :, 0, 0, 0], [0.5, 2.5, 4.5])


def test_average_down_repeats_channels_where_there_are_too_few():
    (x,) = draw((1, 1, 2, 2, 3))
    np.testing.assert_array_equal(average_down(x, 6, 1, 1), jnp.repeat(x, 2, axis=-1))


def test_duplicate_up_gives_one_frame_for_the_first():
    x = jnp.arange(3, dtype=jnp.float32).reshape(1, 3, 1, 1, 1)
    np.testing.assert_array_equal(duplicate_up(x, 1, 2, 2, True)[0, :, 0, 0, 0], [0, 1, 1, 2, 2])
    np.testing.assert_array_equal(duplicate_up(x, 1, 2, 2, False)[0, :, 1, 1, 0], [0, 0, 1, 1, 2, 2])


def test_shortcuts_down_after_up_keep_the_clip():
    (x,) = draw((1, 3, 2, 2, 8))
    up = duplicate_up(x, 4, 2, 2, False)
    np.testing.assert_allclose(average_down(up, 8, 2, 2), x, rtol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (4, 3)])
def test_a_filter_a_channel(size):
    x, kernel, dy = draw((2, 3, *size, 5), (3, 3, 5), (2, 3, *size, 5))
    apart = (
        jnp.zeros((1, 3, 3, 5, 5)).at[0, :, :, jnp.arange(5), jnp.arange(5)].set(jnp.moveaxis(kernel, -1, 0))
    )
    np.testing.assert_allclose(conv.depthwise(x, kernel), conv.native(x, apart), rtol=1e-5, atol=1e-5)

    def whole(x, kernel):
        return conv.native(
            x, jnp.zeros_like(apart).at[0].set(kernel[..., None] * jnp.eye(5).reshape(1, 1, 5, 5))
        )

    got, want = (jax.vjp(f, x, kernel)[1](dy) for f in (conv.depthwise, whole))
    for ours, theirs in zip(got, want, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
