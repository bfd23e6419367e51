"""Image to video, in each of the ways that the published networks take an image, and the two experts."""

import dataclasses

import numpy as np
import pytest
import tiny_wan
from PIL import Image
from tiny_wan import CONFIGS, checkpoint, picture

from sora_jax.media import Clip
from sora_jax.models.config import MODELS
from sora_jax.studio import programs
from sora_jax.studio.image import check_pictures, known_of, pixels_of
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve
from sora_jax.studio.size import ClipSize

PROMPT = "a red circle moves right"
SIZE = ClipSize(height=8, width=12, frames=5, fps=8.0)


@pytest.fixture(scope="module")
def known_frames():
    return Pipeline(checkpoint("first frame known"))


@pytest.fixture(scope="module")
def beside():
    return Pipeline(checkpoint("image beside, experts"))


def sample(pipeline, pictures, **options):
    request = resolve(pipeline.config, [PROMPT], **options)
    return pipeline.sample(request, pipeline.given(request, pictures)).latents


def test_a_known_frame_is_kept_and_the_rest_follows_it(known_frames):
    first, other = picture(0), picture(1)
    x = sample(known_frames, [first])
    frame = known_frames.encode(Clip.from_uint8(first[None], 8.0))
    np.testing.assert_array_equal(x[0, 0], frame[0])
    assert np.abs(x[0, 1:] - sample(known_frames, [other])[0, 1:]).max() > 1e-3
    assert np.abs(x[0, 1:] - sample(known_frames, [])[0, 1:]).max() > 1e-3


def test_marks_tell_the_known_frames():
    config = CONFIGS["two images"]
    pipeline = Pipeline(checkpoint("two images"))
    known = known_of(config, pipeline.params, [picture(0), picture(1)], SIZE, 2, np.float32)
    assert known.beside.shape == (2, 3, 4, 6, 6)
    assert known.tokens.shape == (2, 10, 12)
    # Latent frames of one and of two frames: the first is known, and the second half of the last.
    np.testing.assert_array_equal(known.beside[1, :, 0, 0, :2], [[1, 1], [0, 0], [0, 1]])
    clip = np.zeros((1, 5, 8, 12, 3), np.float32)
    clip[0, 0], clip[0, -1] = (picture(i) / np.float32(127.5) - 1 for i in (0, 1))
    np.testing.assert_allclose(known.beside[:1, ..., 2:], pipeline.encode(clip), atol=1e-5)
    with pytest.raises(ValueError, match="1 frames leave none to make besides the 2 given"):
        known_of(
            config, pipeline.params, [picture(), picture()], dataclasses.replace(SIZE, frames=1), 1, None
        )


def test_a_noise_level_has_its_expert_and_guidance(beside, monkeypatch):
    asked, real = [], programs.advance

    def advance(params, *args, **options):
        asked.append("dit" if params is beside.params["dit"] else "dit_2")
        return real(params, *args, **options)

    monkeypatch.setattr(programs, "advance", advance)
    whole = sample(beside, [picture()], guidance=2.0, guidance_2=3.0)
    # Levels of 3 steps at shift 3: 1, 0.86, 0.6.
    assert asked == ["dit", "dit_2", "dit_2"]
    request = resolve(beside.config, [PROMPT], guidance=2.0, guidance_2=3.0)
    assert request.guidance == (2.0, 3.0, 3.0)
    assert request.settings(0)["guidance"] == [2.0, 3.0, 3.0]
    assert np.abs(whole - sample(beside, [picture(1)], guidance=2.0, guidance_2=3.0)).max() > 1e-3


def test_published_guidance_of_two_experts():
    config = MODELS["wan2_2_t2v_a14b"]
    guidance = resolve(config, [PROMPT]).guidance
    assert (guidance[0], guidance[-1]) == (4.0, 3.0)
    assert guidance.count(4.0) == 26  # of 40 steps at a shift of 12
    assert set(resolve(config, [PROMPT], guidance=5.0).guidance) == {5.0}
    with pytest.raises(ValueError, match="guidance_2 is 3 and wan2_1_t2v_14b has one expert"):
        resolve(MODELS["wan2_1_t2v_14b"], [PROMPT], guidance_2=3.0)


def test_the_clip_has_the_image_s_shape(known_frames, tmp_path):
    path = tmp_path / "tall.png"
    Image.fromarray(picture(0, 24, 16)).save(path)
    clip = known_frames.generate(PROMPT, image=path, progress=False)
    assert clip.frames.shape == (5, 12, 8, 3)
    same = known_frames.generate(PROMPT, image=Image.open(path), size=(12, 8), progress=False)
    np.testing.assert_array_equal(clip.frames, same.frames)


@pytest.mark.parametrize(
    ("kind", "first", "last", "says"),
    [
        ("words", True, False, "wan makes clips from words alone"),
        ("image tokens", False, False, "wan makes a clip from its first image: give one"),
        ("image tokens", True, True, "a first image and no last one"),
        ("first frame known", True, True, "a first image and no last one"),
        ("first frame known", False, True, "makes a clip from its first image: give one"),
        ("two images", True, False, "between two images: give last_image too"),
    ],
)
def test_pictures_that_a_model_does_not_take_are_refused(kind, first, last, says):
    with pytest.raises(ValueError, match=says):
        check_pictures(CONFIGS[kind], picture() if first else None, picture() if last else None)


def test_what_may_be_a_picture():
    pixels = picture()
    for one in (pixels, Image.fromarray(pixels), Clip.from_uint8(pixels[None], 1.0), pixels / 127.5 - 1):
        np.testing.assert_array_equal(pixels_of(one), pixels)
    for wrong in (pixels[0], pixels[..., :1], pixels.astype(np.int64)):
        with pytest.raises(ValueError, match=r"must be \[height, width, 3\]"):
            pixels_of(wrong)
    for kind in tiny_wan.CONFIGS:
        assert checkpoint(kind).config.name == "wan"
