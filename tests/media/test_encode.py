import json
import os

import av
import numpy as np
import pytest
from PIL import Image

from sora_jax.media import Clip, check_output, contact_sheet, encode, read, read_metadata, write

MADE_HOW = {"prompt": 'a réd circle "moves" 红\n', "seed": 3, "settings": {"steps": 30, "size": [64, 64]}}


def moving_dot(t=9, h=64, w=64, fps=8.0, color=(255, 40, 30), metadata=None):
    y, x = np.mgrid[:h, :w]
    centre = np.linspace(w * 0.25, w * 0.75, t)[:, None, None]
    inside = np.clip(h * 0.2 + 0.5 - np.hypot(x - centre, y - h / 2), 0, 1)[..., None]
    frames = inside * np.array(color) + (1 - inside) * np.array((10, 20, 60))
    return Clip.from_uint8(np.rint(frames).astype(np.uint8), fps, metadata)


def psnr(a, b):
    return 10 * np.log10(4 / max(float(np.mean((a - b) ** 2)), 1e-12))


@pytest.mark.parametrize("size", [(64, 64), (37, 53), (1, 2)])
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", ".webp"])
def test_a_clip_comes_back(tmp_path, ending, size):
    clip = moving_dot(h=size[0], w=size[1], metadata=MADE_HOW)
    path = clip.save(tmp_path / f"clip{ending}")
    back = read(path)
    assert back.frames.shape == clip.frames.shape
    assert back.fps == clip.fps
    lossless = ending in (".gif", ".webp")
    if size != (1, 2):
        assert psnr(back.frames, clip.frames) > (60 if lossless else 31)
    assert read_metadata(path) == back.metadata == {**MADE_HOW, "fps": 8.0, "frames": 9}
    assert os.listdir(tmp_path) == [path.name]


@pytest.mark.parametrize("moves_at", [0, 3])
@pytest.mark.parametrize("fps", [8.0, 23.976])
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", ".webp"])
def test_frames_that_repeat_come_back(tmp_path, ending, fps, moves_at):
    frames = np.full((17, 16, 16, 3), 50, np.uint8)
    frames[:moves_at] = 200
    clip = Clip.from_uint8(frames, fps)
    back = read(clip.save(tmp_path / f"still{ending}"))
    assert (len(back), back.fps) == (17, fps)
    assert np.abs(back.frames - clip.frames).max() < 0.1


@pytest.mark.parametrize("fps", [0.5, 1.0, 12.5, 23.976, 30.0, 59.94])
@pytest.mark.parametrize("ending", [".mp4", ".webm", ".webp"])
def test_rates_come_back(tmp_path, ending, fps):
    back = read(moving_dot(t=12, h=16, w=16, fps=fps).save(tmp_path / f"clip{ending}"))
    assert len(back) == 12
    assert back.fps == pytest.approx(fps, rel=1e-4)


@pytest.mark.parametrize("ending", [".mp4", ".webm", ".gif", ".webp", ".png"])
def test_one_frame_is_a_picture(tmp_path, ending):
    clip = moving_dot(t=1)
    back = read(clip.save(tmp_path / f"clip{ending}"))
    assert back.frames.shape == clip.frames.shape
    assert psnr(back.frames, clip.frames) > 31


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
@pytest.mark.parametrize("color", [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (128, 64, 32)])
def test_colours_are_true(tmp_path, ending, color):
    clip = Clip.from_uint8(np.tile(np.array(color, np.uint8), (2, 32, 32, 1)), 8)
    back = read(clip.save(tmp_path / f"clip{ending}")).to_uint8()
    assert np.abs(back.astype(int) - np.array(color)).max() <= 3


@pytest.mark.parametrize("ending", [".mp4", ".webm"])
def test_colours_stay_in_their_place(tmp_path, ending):
    """Chroma sited half a sample off would pull a red bar 0.4 pixels to one side."""
    frames = np.zeros((3, 32, 32, 3), np.uint8)
    frames[:, :, 13:20] = (255, 0, 0)
    row = (
        read(Clip.from_uint8(frames, 8).save(tmp_path / f"bar{ending}")).to_uint8()[1, 16, :, 0].astype(float)
    )
    assert (row * np.arange(32)).sum() / row.sum() == pytest.approx(16, abs=0.1)


def test_mp4_plays_everywhere(tmp_path):
    path = moving_dot().save(tmp_path / "clip.mp4")
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")


def test_png_of_a_clip_is_a_sheet(tmp_path):
    path = moving_dot(t=9, metadata=MADE_HOW).save(tmp_path / "clip.png")
    with Image.open(path) as image:
        assert image.size == (3 * 64 + 8, 3 * 64 + 8)
        assert json.loads(image.text["sora_jax"])["seed"] == 3  # pyright: ignore[reportAttributeAccessIssue]


def test_gif_is_never_faster_than_browsers_show(tmp_path):
    path = moving_dot(t=60, h=16, w=16, fps=60).save(tmp_path / "clip.gif")
    with Image.open(path) as image:
        delays = []
        for index in range(image.n_frames):  # pyright: ignore[reportAttributeAccessIssue]
            image.seek(index)
            delays.append(image.info["duration"])
    assert min(delays) >= 20
    assert sum(delays) == pytest.approx(1000, abs=30)


@pytest.mark.parametrize("ending", encode.ENDINGS.split())
def test_equal_clips_give_equal_bytes(tmp_path, ending):
    a, b = (moving_dot(metadata=MADE_HOW).save(tmp_path / f"{name}{ending}") for name in "ab")
    assert a.read_bytes() == b.read_bytes()


def test_long_metadata_survives_gif_blocks(tmp_path):
    long = {"prompt": "x" * 3000}
    assert read_metadata(moving_dot(metadata=long).save(tmp_path / "a.gif"))["prompt"] == long["prompt"]


def test_numbers_of_numpy_are_metadata(tmp_path):
    path = moving_dot(metadata={"seed": np.int64(4), "scales": np.array([1.0, 2.0])}).save(
        tmp_path / "a.webp"
    )
    assert read_metadata(path) == {"seed": 4, "scales": [1.0, 2.0], "fps": 8.0, "frames": 9}


def test_a_foreign_file_has_no_metadata(tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.gif", comment=b"made by hand")
    assert read_metadata(tmp_path / "a.gif") == {}


@pytest.mark.parametrize("name", ["clip.avi", "clip", "clip.mp4.txt"])
def test_unknown_endings_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="written as one of"):
        check_output(tmp_path / name)


def test_places_that_cannot_be_written_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist: create it"):
        write(tmp_path / "missing" / "clip.mp4", moving_dot())
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(IsADirectoryError, match="is a folder"):
        check_output(tmp_path / "folder.mp4")


def test_metadata_without_json_is_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match="JSON"):
        write(tmp_path / "clip.mp4", moving_dot(metadata={"model": object()}))
    assert not os.listdir(tmp_path)


def test_a_failure_half_way_leaves_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "clip.webp"
    path.write_bytes(b"old")

    def half(temporary, clip, text):
        temporary.write_bytes(b"half")
        raise RuntimeError("killed")

    monkeypatch.setitem(encode.WRITERS, ".webp", half)
    with pytest.raises(RuntimeError):
        write(path, moving_dot())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["clip.webp"]


def test_contact_sheet(tmp_path):
    clips = [moving_dot(t=17), moving_dot(t=3, h=32, w=128), moving_dot(t=1, h=200, w=100)]
    labels = ["a red dot moves right", "wide " * 60, ""]
    sheet = contact_sheet(clips, labels, 5, tmp_path / "sheet.png")
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == sheet.size
    # Five frames of the first clip, enlarged to 128 pixels; three of the second, four times as wide as high.
    assert sheet.width == max(5 * 128 + 4 * 4, 3 * 384 + 2 * 4) + 8
    assert np.asarray(sheet)[:20].min() < 100  # ink


def test_contact_sheet_refuses_nonsense(tmp_path):
    with pytest.raises(ValueError, match="no clips"):
        contact_sheet([], path=tmp_path / "sheet.png")
    with pytest.raises(ValueError, match="2 labels for 1 clips"):
        contact_sheet([moving_dot()], ["a", "b"])
