import pytest

from sora_jax.models.config import MODELS
from sora_jax.studio.size import frames_for, parse_aspect, parse_size, resolve_size, sides_for_aspect

PLAYGROUND = MODELS["playground"]
WAN = MODELS["wan2_1_t2v_1_3b"]


@pytest.mark.parametrize(
    ("seconds", "frames"), [(2, 17), (1, 9), (0.5, 5), (2.125, 17), (1.5, 13), (3, 25), (0.1, 1)]
)
def test_seconds_become_frames_that_fit(seconds, frames):
    assert frames_for(seconds, 8.0, 4) == frames


@pytest.mark.parametrize("seconds", [1.3, 2.3, 1.9])
def test_seconds_between_two_lengths_name_both(seconds):
    with pytest.raises(ValueError, match="nearest") as error:
        frames_for(seconds, 8.0, 4)
    named = [float(word) for word in str(error.value).split() if word.replace(".", "").isdigit()]
    fits = [number for number in named if (number * 8) % 4 == 0 and number < 4]
    assert fits
    for number in fits:
        assert (frames_for(number, 8.0, 4) - 1) % 4 == 0


@pytest.mark.parametrize("seconds", [0, -1, float("nan"), float("inf"), 1e9])
def test_impossible_seconds(seconds):
    with pytest.raises(ValueError, match="seconds"):
        frames_for(seconds, 8.0, 4)


def test_frames_that_fit_are_one_and_a_multiple():
    assert resolve_size(PLAYGROUND, frames=1).frames == 1
    with pytest.raises(ValueError, match="13 and 17"):
        resolve_size(PLAYGROUND, frames=16)
    with pytest.raises(ValueError, match="frames"):
        resolve_size(PLAYGROUND, frames=10**9 + 1)
    with pytest.raises(ValueError, match="nearest are 1 and 5"):
        resolve_size(PLAYGROUND, frames=-3)


def test_sizes():
    assert parse_size("832x480") == (480, 832)
    assert parse_size((480, 832)) == (480, 832)
    size = resolve_size(WAN, size="832x480")
    assert (size.height, size.width, size.frames, size.fps) == (480, 832, 81, 16.0)
    for wrong in ("64", "64x", "-64x64", "64x64x64", "axb", (64,), (64, 6.5), 7, "1e3x64"):
        with pytest.raises(ValueError, match="size"):
            parse_size(wrong)


def test_sizes_that_do_not_fit_name_the_nearest():
    with pytest.raises(ValueError, match=r"width of 70 pixels.*64 and 80"):
        resolve_size(PLAYGROUND, size="70x64")
    with pytest.raises(ValueError, match=r"height of 0 pixels.*nearest is 16"):
        resolve_size(PLAYGROUND, size="64x0")
    # The denoiser's patch counts too: 8 pixels a latent, 2 latents a token.
    with pytest.raises(ValueError, match="multiple of 16"):
        resolve_size(WAN, size="840x480")
    with pytest.raises(ValueError, match="up to 8192"):
        resolve_size(PLAYGROUND, size="1000000000x64")


@pytest.mark.parametrize("aspect", ["1:1", "16:9", "9:16", "4:3", "21:9"])
@pytest.mark.parametrize("config", [PLAYGROUND, WAN])
def test_aspect_fits_and_keeps_the_area(aspect, config):
    size = resolve_size(config, aspect=aspect)
    ratio, area = parse_aspect(aspect), config.defaults.height * config.defaults.width
    assert 0.6 < size.height * size.width / area < 1.6
    assert abs(size.width / size.height / ratio - 1) < 0.2
    assert resolve_size(config, size=(size.height, size.width)) == size


def test_aspect_of_the_default_is_the_default():
    assert sides_for_aspect(1.0, 64 * 64, (16, 16)) == (64, 64)
    assert sides_for_aspect(16 / 9, 64 * 64, (16, 16)) == (48, 80)


@pytest.mark.parametrize("aspect", ["16", "0:9", "16:0", "a:b", "100:1", "-1:1"])
def test_wrong_aspects(aspect):
    with pytest.raises(ValueError, match="aspect"):
        parse_aspect(aspect)


def test_one_way_to_say_it():
    with pytest.raises(ValueError, match="one of them"):
        resolve_size(PLAYGROUND, seconds=2, frames=17)
    with pytest.raises(ValueError, match="one of them"):
        resolve_size(PLAYGROUND, size="64x64", aspect="1:1")
    for fps in (0, -8, float("nan"), 1e6):
        with pytest.raises(ValueError, match="fps"):
            resolve_size(PLAYGROUND, fps=fps)
