import struct
import warnings
from fractions import Fraction

import av
import numpy as np
import pytest
from PIL import Image

from sora_jax.media import Clip, Limits, MediaWarning, decode, read

RED, BLUE = (250, 20, 20), (20, 20, 250)


def halves(h=32, w=48, t=6):
    """Left half red, right half blue, so that turning and cropping show."""
    frames = np.empty((t, h, w, 3), np.uint8)
    frames[:, :, : w // 2], frames[:, :, w // 2 :] = RED, BLUE
    return frames


def moving_halves(t=6):
    """Halves whose every frame differs, for formats that merge equal ones."""
    frames = halves(t=t)
    frames[np.arange(t), 0, np.arange(t)] = 255
    return frames


def near(pixel, color):
    return np.abs(pixel.astype(int) - np.array(color)).max() <= 12


def encode(
    path, frames, codec="libx264", pix_fmt="yuv420p", *, pts=None, form="rgb24", sound=False, sar=None
):
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10, options={"crf": "12"} if "x26" in codec else {})
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], pix_fmt
        stream.codec_context.time_base = Fraction(1, 1000)
        if sar:
            stream.codec_context.sample_aspect_ratio = sar
        noise = container.add_stream("aac", rate=44100) if sound else None
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format=form)
            frame.pts, frame.time_base = (pts[index] if pts else index * 100), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        if noise:
            samples = av.AudioFrame.from_ndarray(
                np.zeros((2, 1024), np.float32), format="fltp", layout="stereo"
            )
            samples.sample_rate = 44100
            container.mux(noise.encode(samples))
            container.mux(noise.encode())
    return path


@pytest.mark.parametrize(
    ("degrees", "matrix", "where_red_is"),
    [
        (90, (0, 1, -1, 0), "top"),
        (180, (-1, 0, 0, -1), "right"),
        (270, (0, -1, 1, 0), "bottom"),
    ],
)
def test_rotation_tags_are_obeyed(tmp_path, degrees, matrix, where_red_is):
    path = encode(tmp_path / "phone.mp4", halves())
    data = bytearray(path.read_bytes())
    a, b, c, d = (value * 65536 for value in matrix)
    start = data.index(b"tkhd") + 44
    data[start : start + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    image = read(path).to_uint8()[0]
    assert image.shape == ((32, 48, 3) if degrees == 180 else (48, 32, 3))
    h, w = image.shape[:2]
    corner = {"top": image[3, w // 2], "bottom": image[h - 4, w // 2], "right": image[h // 2, w - 4]}
    assert near(corner[where_red_is], RED)


def test_exif_rotation_of_a_photo(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side: turn clockwise to view
    Image.fromarray(halves()[0]).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    clip = read(tmp_path / "photo.jpg")
    assert clip.frames.shape == (1, 48, 32, 3)
    assert near(clip.to_uint8()[0, 4, 16], RED)


def test_variable_frame_rate_is_evened_out(tmp_path):
    frames = np.stack([np.full((32, 32, 3), value, np.uint8) for value in (0, 60, 120, 180, 240)])
    path = encode(tmp_path / "vfr.mp4", frames, pts=[0, 100, 200, 300, 700])
    at_ten = read(path, fps=10).to_uint8()[:, 0, 0, 0].astype(int)
    np.testing.assert_allclose(at_ten[:8], [0, 60, 120, 180, 180, 180, 180, 240], atol=4)
    own = read(path)
    assert own.fps == 10
    np.testing.assert_array_equal(own.frames, read(path, fps=10).frames)


def test_frames_are_what_the_file_shows_at_that_time(tmp_path):
    ramp = np.arange(24, dtype=np.uint8)[:, None, None, None] * 10 + np.zeros((1, 16, 16, 3), np.uint8)
    path = Clip.from_uint8(ramp, 24).save(tmp_path / "ramp.webp")
    np.testing.assert_array_equal(read(path, fps=8).to_uint8()[:, 0, 0, 0], ramp[::3, 0, 0, 0])
    assert len(read(path, fps=8, max_frames=5)) == 5
    doubled = read(path, fps=48).to_uint8()[:, 0, 0, 0]
    assert len(doubled) == 48
    np.testing.assert_array_equal(doubled, np.repeat(ramp[:, 0, 0, 0], 2))


def test_ten_bit_and_odd_sizes(tmp_path):
    path = encode(tmp_path / "deep.mov", halves(h=34, w=46), "prores_ks", "yuv422p10le")
    assert near(read(path).to_uint8()[0, 10, 10], RED)
    odd = encode(tmp_path / "odd.webm", halves(h=33, w=47), "libvpx-vp9")
    assert read(odd).frames.shape == (6, 33, 47, 3)


@pytest.mark.parametrize(
    ("name", "codec", "pix_fmt"), [("a.webm", "libvpx-vp9", "yuva420p"), ("a.mov", "qtrle", "argb")]
)
def test_alpha_of_videos_is_laid_on_the_colour(tmp_path, name, codec, pix_fmt):
    frames = np.concatenate([halves(), np.full((6, 32, 48, 1), 255, np.uint8)], -1)
    frames[:, :, 24:, 3] = 0
    path = encode(tmp_path / name, frames, codec, pix_fmt, form="rgba")
    image = read(path, background="#00ff00").to_uint8()[2]
    assert near(image[16, 8], RED)
    assert near(image[16, 40], (0, 255, 0))


def test_gray_of_sixteen_bits_is_brought_to_eight(tmp_path):
    ramp = np.arange(0, 65536, 257, dtype=np.uint16)
    Image.fromarray(np.tile(ramp, (8, 1))).save(tmp_path / "scan.png")
    assert Image.open(tmp_path / "scan.png").mode == "I;16"
    np.testing.assert_array_equal(
        read(tmp_path / "scan.png").to_uint8()[0, 0], np.arange(256)[:, None].repeat(3, 1)
    )


@pytest.mark.parametrize("ending", [".webp", ".gif", ".png"])
def test_alpha_of_animations_is_laid_on_the_colour(tmp_path, ending):
    images = []
    for x in range(4):
        image = Image.new("RGBA", (32, 16), (0, 0, 0, 0))
        image.paste((*RED, 255), (x * 8, 0, x * 8 + 8, 16))
        image.putpixel((x, 0), (0, 0, 0, 128))  # without one, WebP's encoder forgets the transparency
        images.append(image)
    path = tmp_path / f"a{ending}"
    extra = {"lossless": True} if ending == ".webp" else {"disposal": 2}
    images[0].save(path, save_all=True, append_images=images[1:], duration=120, loop=0, **extra)
    clip = read(path, background="white")
    assert clip.frames.shape == (4, 16, 32, 3)
    assert clip.fps == pytest.approx(1 / 0.12, rel=1e-3)
    for x, image in enumerate(clip.to_uint8()):
        row = image[8, 4::8]
        assert [near(pixel, RED) for pixel in row] == [x == place for place in range(4)]
        assert near(row[(x + 1) % 4], (255, 255, 255))


def test_pixels_that_are_not_square_are_stretched(tmp_path):
    path = encode(tmp_path / "dv.mp4", halves(h=32, w=32), sar=Fraction(2, 1))
    assert read(path).frames.shape == (6, 32, 64, 3)


def test_size_keeps_the_aspect_by_cropping_the_middle(tmp_path):
    frames = np.zeros((2, 40, 120, 3), np.uint8)
    frames[:, :, 40:80] = 255
    frames[1, :, 0] = 9
    path = Clip.from_uint8(frames, 8).save(tmp_path / "wide.webp")
    square = read(path, size=(20, 20)).to_uint8()
    assert square.shape == (2, 20, 20, 3)
    assert square[:, :, 1:-1].min() > 240
    of_own = read(path, size=lambda height, width: (height // 2, width // 6)).to_uint8()
    np.testing.assert_array_equal(of_own, square)


def test_a_phone_s_picture_is_read(tmp_path):
    Image.new("RGB", (4032, 3024), (0, 255, 0)).save(tmp_path / "photo.jpg")
    assert read(tmp_path / "photo.jpg", size=(48, 64)).frames.shape == (1, 48, 64, 3)


def test_sound_is_dropped_with_a_notice(tmp_path):
    path = encode(tmp_path / "loud.mp4", halves(), sound=True)
    with pytest.warns(MediaWarning, match="sound is dropped"):
        assert len(read(path)) == 6


def test_the_content_counts_not_the_ending(tmp_path):
    path = Clip.from_uint8(moving_halves(), 8).save(tmp_path / "a.webp")
    lying = path.rename(tmp_path / "a.mp4")
    assert len(read(lying)) == 6


@pytest.mark.parametrize(
    ("limits", "match"),
    [
        (Limits(pixels=1000), "48x32 pixels, over the limit"),
        (Limits(side=40), "48x32 pixels, over the limit"),
        (Limits(frames=5), "6 frames, over the limit"),
        (Limits(seconds=0.5), "over the limit of 0.5 s"),
        (Limits(file_bytes=100), "bytes, over the limit"),
    ],
)
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".webp", ".gif"])
def test_limits_hold_before_anything_is_decoded(tmp_path, monkeypatch, ending, limits, match):
    path = Clip.from_uint8(moving_halves(), 10).save(tmp_path / f"a{ending}")

    def never(*_):
        raise AssertionError("decoded")

    if not (ending in (".webp", ".gif") and limits.seconds < 1):  # delays stand beside each image
        monkeypatch.setattr(decode, "_decoded", never)
        monkeypatch.setattr(decode, "_fit", never)
    with pytest.raises(ValueError, match=match):
        read(path, limits=limits)


def test_the_whole_clip_is_bounded_and_a_smaller_size_fits(tmp_path):
    path = Clip.from_uint8(moving_halves(), 8).save(tmp_path / "a.webp")
    with pytest.raises(ValueError, match="smaller size"):
        read(path, limits=Limits(volume=5000))
    assert len(read(path, size=(16, 16), limits=Limits(volume=5000))) == 6


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".webp", ".gif", ".png"])
def test_damaged_files_get_one_sentence(tmp_path, ending):
    rng = np.random.default_rng(0)
    clip = Clip.from_uint8(rng.integers(0, 255, (4, 32, 32, 3), np.uint8), 8)
    whole = clip.save(tmp_path / f"a{ending}").read_bytes()
    for cut in (5, 40, len(whole) // 4):
        (tmp_path / f"cut{ending}").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"damaged|cut short|is no mp4|no video") as error:
            read(tmp_path / f"cut{ending}")
        assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "text", [b"", b"#EXTM3U\n/etc/hostname\n", b"ffconcat version 1.0\nfile /etc/hostname\n"]
)
def test_playlists_and_empty_files_are_refused(tmp_path, text):
    (tmp_path / "list.mp4").write_bytes(text)
    with pytest.raises(ValueError, match=r"is no mp4|is empty"):
        read(tmp_path / "list.mp4")


def test_places_that_hold_no_file(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        read(tmp_path / "none.mp4")
    with pytest.raises(IsADirectoryError, match="is a folder"):
        read(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "match"),
    [({"fps": 0}, "frame rate"), ({"size": (0, 4)}, "no pixels"), ({"background": "reddish"}, "no colour")],
)
def test_nonsense_is_refused(tmp_path, arguments, match):
    path = Clip.from_uint8(moving_halves(), 8).save(tmp_path / "a.webp")
    with pytest.raises(ValueError, match=match):
        read(path, **arguments)


def test_reading_is_quiet(tmp_path):
    path = Clip.from_uint8(moving_halves(), 8).save(tmp_path / "a.mp4")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read(path)
