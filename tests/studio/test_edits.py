"""Edits lay out timelines: what is known stays to the bit, the rest is made, nonsense is refused in one sentence."""

import dataclasses
import functools

import numpy as np
import pytest
import tiny_model

from sora_jax.diffusion import StepCache
from sora_jax.diffusion.cache import TeaCache
from sora_jax.media import Clip, Limits, from_uint8, read_metadata
from sora_jax.models.config import MODELS
from sora_jax.studio import programs
from sora_jax.studio.edits import Card
from sora_jax.studio.edits.blend import influence
from sora_jax.studio.edits.inpaint import frame_around
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sources import fit_mask, sides_of

WORDS, OTHER = "a red circle moves right", "a blue star spins"
QUIET = {"steps": 2, "progress": False}


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


def clip_of(seed: int, frames: int = 5, size: tuple[int, int] = (16, 16), fps: float = 8.0) -> Clip:
    rng = np.random.default_rng(seed)
    return Clip(np.tanh(rng.standard_normal((frames, *size, 3), np.float32)), fps, {"prompt": WORDS})


CLIP = clip_of(0)


def assert_led_over_to(frames, kept):
    """They are `kept` to the bit, but for the two of a latent that come after made ones."""
    assert np.square(frames[:2] - kept[:2]).mean(axis=(1, 2, 3)).max() <= 4.0001e-3  # 30 dB
    np.testing.assert_array_equal(frames[2:], kept[2:])


@pytest.mark.parametrize(
    ("direction", "before", "after"), [("forward", 0, 7), ("backward", 7, 0), ("both", 7, 7)]
)
def test_an_extension_keeps_the_clip(pipeline, direction, before, after):
    longer = pipeline.extend(CLIP, WORDS, seconds=7 / 8, direction=direction, seed=1, **QUIET)
    assert longer.frames.shape == (5 + before + after, 16, 16, 3)
    if before:
        assert_led_over_to(longer.frames[before : before + 5], CLIP.frames)
    else:
        np.testing.assert_array_equal(longer.frames[:5], CLIP.frames)
    new = np.delete(longer.frames, np.s_[before : before + 5], axis=0)
    assert new.std(axis=(1, 2, 3)).min() > 0
    about = {"operation": "extend", "prompt": WORDS, "seed": 1, "direction": direction, "steps": 2}
    assert about.items() <= longer.metadata.items()


def test_an_extension_follows_the_clip_the_words_and_the_seed(pipeline):
    def new(clip=CLIP, words=WORDS, seed=1):
        return pipeline.extend(clip, words, seconds=0.5, seed=seed, **QUIET).frames[5:]

    first = new()
    np.testing.assert_array_equal(new(), first)
    for other in (new(clip_of(1)), new(words=OTHER), new(seed=2)):
        assert np.abs(other - first).max() > 1e-3


@pytest.mark.parametrize(("given", "used"), [({}, 1.5), ({"guidance": 4.0}, 4.0)])
def test_what_goes_on_from_moving_frames_is_guided_half_as_much_and_by_them(given, used):
    defaults = dataclasses.replace(tiny_model.CONFIG.defaults, guidance=3.0)
    config = dataclasses.replace(tiny_model.CONFIG, defaults=defaults)
    pipeline = Pipeline(dataclasses.replace(tiny_model.checkpoint(), config=config))
    settings = {**QUIET, **given}
    for clip in (
        pipeline.extend(CLIP, WORDS, seconds=0.5, **settings),
        pipeline.loop(CLIP, **settings),
        pipeline.connect(CLIP, CLIP, WORDS, seconds=0.5, **settings),
        pipeline.recut(CLIP, [(0.25, 0.5, 0.5)], WORDS, seconds=1, **settings),
    ):
        assert (clip.metadata["guidance"], clip.metadata["history"]) == (used, 1)
    asked = pipeline.extend(CLIP, WORDS, seconds=0.5, **QUIET, guidance=used, history=1.0)
    halved = pipeline.extend(CLIP, WORDS, seconds=0.5, **settings)
    np.testing.assert_array_equal(asked.frames, halved.frames)
    by_words = pipeline.extend(CLIP, WORDS, seconds=0.5, **settings, history=0.0)
    assert np.abs(by_words.frames - halved.frames).max() > 1e-3
    with pytest.raises(ValueError, match="history is 2, a noise level"):
        pipeline.extend(CLIP, WORDS, seconds=0.5, **settings, history=2.0)


def test_an_edit_says_what_it_was_made_with(pipeline, tmp_path):
    made = pipeline.extend(
        CLIP, WORDS, seconds=0.5, progress=False, cache=StepCache(rule=TeaCache()), seed=np.int64(3)
    )
    about = {"seed": 3, "steps": 3, "sampler": "unipc", "guidance": 1.0, "negative": "", "cache": "tea:0.1"}
    assert about.items() <= read_metadata(made.save(tmp_path / "made.webp")).items()
    same = pipeline.generate(WORDS, seed=np.int64(3), frames=1, **QUIET)
    np.testing.assert_array_equal(same.frames, pipeline.generate(WORDS, seed=[3], frames=1, **QUIET).frames)


def test_two_clips_are_connected(pipeline, tmp_path):
    other = clip_of(1)
    joined = pipeline.connect(CLIP, other, WORDS, seconds=0.5, **QUIET)
    np.testing.assert_array_equal(joined.frames[:5], CLIP.frames)
    assert_led_over_to(joined.frames[-5:], other.frames)
    assert len(joined) == 14
    pictures = pipeline.connect(CLIP.to_uint8()[0], other.to_uint8()[0], WORDS, seconds=0.25, **QUIET)
    assert len(pictures) == 1 + 2 + 2
    files = [str(Clip(one.frames[:1], 8).save(tmp_path / f"{k}.png")) for k, one in enumerate((CLIP, other))]
    from_files = pipeline.connect(*files, WORDS, seconds=0.25, **QUIET)
    np.testing.assert_array_equal(from_files.frames, pictures.frames)
    longer = pipeline.extend(files[0], WORDS, seconds=0.5, **QUIET)
    assert (len(longer), longer.fps) == (5, 8)
    assert len(pipeline.connect(files[0], clip_of(1, fps=4.0), WORDS, seconds=0.5, **QUIET)) == 1 + 2 + 5
    assert_led_over_to(pictures.frames[-2:], from_uint8(other.to_uint8()[:1]).repeat(2, axis=0))


def test_a_loop_keeps_its_clip_and_is_led_back(pipeline, tmp_path):
    ring = pipeline.loop(CLIP, **QUIET)
    assert_led_over_to(ring.frames[:5], CLIP.frames)
    assert np.abs(ring.frames[0] - CLIP.frames[0]).max() > 1e-3
    assert len(ring) == 5 + 2
    assert ring.metadata["prompt"] == WORDS
    path = str(CLIP.save(tmp_path / "ring.webp"))
    np.testing.assert_array_equal(pipeline.loop(path, **QUIET).to_uint8()[2:5], CLIP.to_uint8()[2:5])
    with pytest.raises(FileNotFoundError, match=r"gone\.mp4"):
        pipeline.loop("gone.mp4", **QUIET)
    fresh = pipeline.loop(WORDS, **QUIET)
    assert_led_over_to(fresh.frames[:5], pipeline.generate(WORDS, **QUIET).frames)


def test_keyframes_stay_where_they_are(pipeline):
    first, middle, last = (clip_of(seed, 1).to_uint8()[0] for seed in (1, 2, 3))
    clip = pipeline.animate(
        first, WORDS, last_image=last, keyframes={0.5: middle}, frames=9, size=(16, 16), **QUIET
    )
    np.testing.assert_array_equal(clip.to_uint8()[0], first)
    for place, picture in ((4, middle), (8, last)):
        assert_led_over_to(clip.frames[place][None], from_uint8(picture[None]))
    assert clip.metadata["images_at"] == [0, 0.5, 1]
    # One image that begins the clip is what `generate` takes, too.
    alone = pipeline.animate(first, WORDS, size=(16, 16), **QUIET)
    same = pipeline.generate(WORDS, image=first, size=(16, 16), **QUIET)
    np.testing.assert_allclose(alone.frames[1:], same.frames[1:], atol=1e-5)


def test_remix_goes_from_the_clip_to_a_fresh_one(pipeline):
    assert np.array_equal(pipeline.remix(CLIP, OTHER, strength=0, **QUIET).frames, CLIP.frames)
    fresh = pipeline.generate(OTHER, **QUIET).frames
    np.testing.assert_allclose(pipeline.remix(CLIP, OTHER, strength=1, **QUIET).frames, fresh, atol=1e-4)
    through = pipeline.decode(pipeline.encode(CLIP)).frames
    changed = [
        np.abs(pipeline.remix(CLIP, OTHER, strength=s, **QUIET).frames - through).mean()
        for s in (0.1, 0.5, 1.0)
    ]
    assert changed == sorted(changed)
    assert pipeline.remix(CLIP, OTHER, strength="subtle", **QUIET).metadata["strength"] == 0.6


def test_remix_starts_from_the_clip_where_its_end_fills_no_latent(pipeline):
    clip = clip_of(3, 4)
    through = pipeline.decode(pipeline.encode(Clip(clip.frames[[0, 1, 2, 3, 3]], clip.fps))).frames[:4]
    apart = np.abs(pipeline.remix(clip, OTHER, strength=0.05, **QUIET).frames - through).mean(axis=(1, 2, 3))
    assert apart[3] < 2 * apart[:3].max()


def test_a_picture_that_stands_for_a_latent_is_gone_back_from(pipeline):
    first, other = (
        pipeline.extend(clip_of(seed, 1), WORDS, seconds=0.5, direction="backward", **QUIET)
        for seed in (1, 2)
    )
    assert np.abs(first.frames[:4] - other.frames[:4]).max() > 1e-3


def test_a_network_without_known_frames_remixes_and_blends_at_once(pipeline):
    config = dataclasses.replace(tiny_model.CONFIG, known_frames=False)
    plain = Pipeline(dataclasses.replace(tiny_model.checkpoint(), config=config))
    long, other = clip_of(0, 12), clip_of(1, 12)
    for clip in (
        plain.remix(long, OTHER, **QUIET),
        plain.blend(long, other, (WORDS, OTHER), **QUIET),
        plain.storyboard([Card(at=0, prompt=WORDS), Card(at=0.5, prompt=OTHER)], seconds=1.5, **QUIET),
    ):
        assert len(clip) == 12
    at_once = plain.generate(OTHER, frames=13, **QUIET).frames[:12]
    np.testing.assert_allclose(plain.remix(long, OTHER, strength=1, **QUIET).frames, at_once, atol=1e-4)
    np.testing.assert_array_equal(plain.remix(long, OTHER, strength=0, **QUIET).frames, long.frames)
    with pytest.raises(ValueError, match="was not trained with known frames"):
        plain.extend(long, WORDS, seconds=1, **QUIET)


def test_a_network_that_needs_an_image_says_what_it_can(pipeline):
    model = tiny_model.CONFIG
    dit = dataclasses.replace(
        model.dit, in_channels=2 * model.vae.latent_channels + model.vae.temporal_factor
    )
    config = dataclasses.replace(model, known_frames=False, dit=dit)
    needing = Pipeline(dataclasses.replace(tiny_model.checkpoint(), config=config))
    for edit in (
        lambda: needing.remix(CLIP, OTHER, **QUIET),
        lambda: needing.storyboard([Card(at=0, prompt=WORDS)], seconds=0.5, **QUIET),
    ):
        with pytest.raises(ValueError, match="begins every clip with an image"):
            edit()


def test_a_blend_begins_as_one_and_ends_as_the_other(pipeline):
    other = clip_of(1)
    clip = pipeline.blend(CLIP, other, (WORDS, OTHER), **QUIET)
    np.testing.assert_array_equal(clip.frames[0], CLIP.frames[0])
    assert_led_over_to(clip.frames[-1:], other.frames[-1:])
    mean = (CLIP.frames + other.frames) / 2
    assert np.abs(clip.frames[2] - mean[2]).max() > 1e-3
    same = pipeline.blend(CLIP, other, (WORDS, OTHER), curve=[(0, 0), (0.5, 0)], **QUIET)
    np.testing.assert_array_equal(same.frames, CLIP.frames)


def test_curves_of_influence():
    np.testing.assert_allclose(influence("linear", 5, 8), [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(influence([(0.25, 1), (0, 0)], 4, 8), [0, 0.5, 1, 1])
    for name in ("linear", "smooth", "late", "early"):
        curve = influence(name, 17, 8)
        assert (np.diff(curve) > 0).all()
        assert (curve[0], curve[-1]) == (0, 1)
    for wrong in (
        "wavy",
        [],
        [(0, 2)],
        [(float("nan"), 0)],
        [1, 0],
        [(0, 1, 2)],
        [(0, 0), 1],
        [("a", 1)],
        None,
    ):
        with pytest.raises(ValueError, match=r"curve"):
            influence(wrong, 5, 8)


def test_moments_are_kept_on_a_new_timeline(pipeline):
    clip = clip_of(4, 9)
    cut = pipeline.recut(clip, [(0.25, 0.75, 0.5), (0, 0.25, 1.25)], WORDS, seconds=1.75, **QUIET)
    assert len(cut) == 14
    assert_led_over_to(cut.frames[4:8], clip.frames[2:6])
    assert_led_over_to(cut.frames[10:12], clip.frames[:2])


def test_cards_have_their_spans(pipeline):
    picture, moving = clip_of(5, 1).to_uint8()[0], clip_of(6, 3)
    cards = [
        Card(at=0, prompt=WORDS),
        Card(at=0.5, prompt=OTHER),
        Card(at=1, prompt=OTHER, image=picture, cut=True),
        Card(at=1.5, clip=moving),
    ]
    board = pipeline.storyboard(cards, seconds=2, seed=2**32 - 1, **QUIET)
    assert len(board) == 16
    assert board.metadata["seed"] == 2**32 - 1
    np.testing.assert_array_equal(board.to_uint8()[8], picture)
    assert_led_over_to(board.frames[12:15], moving.frames)
    assert board.metadata["cuts_at"] == [1]
    # Nothing of the first shot goes into the second.
    alone = pipeline.storyboard(
        [Card(at=0, prompt=OTHER, image=picture), Card(at=0.5, clip=moving)], seconds=1, seed=1, **QUIET
    )
    np.testing.assert_array_equal(board.frames[8:], alone.frames)


@pytest.mark.parametrize(
    ("last", "says"),
    [
        (Card(at=0.5, cut=True, prompt=OTHER, clip=clip_of(6, 9)), "runs into the next"),
        (Card(at=0.5, cut=True, prompt=OTHER, clip="gone.mp4"), r"gone\.mp4"),
        (Card(at=0.5, cut=True, prompt=OTHER, image="gone.png"), r"gone\.png"),
        (Card(at=0.5, cut=True, clip=clip_of(6, 2)), "has no prompt"),
        (Card(at=0.5, cut=True, prompt="zebra"), "knows no word"),
    ],
)
def test_a_board_is_checked_before_a_shot_is_made(pipeline, monkeypatch, last, says):
    monkeypatch.setattr(Pipeline, "sample", lambda *_, **__: pytest.fail("sampled"))
    with pytest.raises((ValueError, OSError), match=says):
        pipeline.storyboard([Card(at=0, prompt=WORDS), last], seconds=1, **QUIET)


def test_a_large_file_is_read_as_small_as_the_edit(pipeline, tmp_path, monkeypatch):
    frames = np.zeros((48, 90, 240, 3), np.uint8)
    frames[:, :, 75:165] = np.arange(48, dtype=np.uint8)[:, None, None, None] * 5
    path = Clip.from_uint8(frames, 24).save(tmp_path / "phone.webp")
    monkeypatch.setattr(Limits, "__init__", functools.partialmethod(Limits.__init__, volume=5_000))
    with pytest.raises(ValueError, match="smaller size or a lower rate"):
        pipeline.remix(path, WORDS, strength=0, **QUIET)
    square = pipeline.remix(path, WORDS, strength=0, size="16x16", fps=8, **QUIET)
    assert (square.frames.shape, square.fps) == ((16, 16, 16, 3), 8)
    np.testing.assert_allclose(square.to_uint8()[:, 8, 8, 0], np.arange(0, 240, 15), atol=2)
    assert square.to_uint8()[-1, :, [1, -2]].min() > 200  # the middle, and no black of the sides


def test_a_clip_of_few_pixels_is_scaled_up(pipeline):
    config = pipeline.config
    own = (4, 4), (8, 8), (12, 12), (16, 16), (8, 16), (16, 24), (24, 24)
    edited = [(16, 16)] * 4 + [(8, 16), (16, 24), (16, 16)]
    assert [sides_of(config, *sides) for sides in own] == edited
    assert sides_of(MODELS["playground"], 16, 32) == (48, 96)
    assert sides_of(config, 8, 8, "8x8") == (8, 8)


def test_a_mask_is_fitted_as_its_clip(pipeline, tmp_path):
    clip = clip_of(0, size=(36, 72))
    mask = np.zeros((36, 72), bool)
    mask[:18, 19:53] = True
    picture = tmp_path / "mask.png"
    Clip.from_uint8(np.repeat(mask[None, ..., None] * np.uint8(255), 3, axis=-1), 1).save(picture)
    fitted = pipeline.remix(clip, OTHER, strength=0, size=(16, 16), **QUIET).frames
    inside = np.zeros((16, 16), bool)
    inside[:8] = True
    for given in (mask, np.repeat(mask[None], 5, axis=0), str(picture), inside):
        painted = pipeline.inpaint(clip, OTHER, mask=given, size=(16, 16), **QUIET).frames
        np.testing.assert_array_equal(painted[:, ~inside], fitted[:, ~inside])
        assert np.abs(painted - fitted)[:, inside].max() > 1e-3
    line = np.zeros((36, 72), bool)
    line[17, 36] = True
    assert fit_mask(line, (16, 16)).sum() == 1


def test_an_image_card_is_seen_by_what_leads_to_it(pipeline):
    def led(seed):
        cards = [Card(at=0, prompt=WORDS), Card(at=0.5, image=clip_of(seed, 1).to_uint8()[0])]
        board = pipeline.storyboard(cards, seconds=0.75, **QUIET)
        assert_led_over_to(board.frames[3:5], from_uint8(clip_of(seed, 1).to_uint8().repeat(2, axis=0)))
        return board.frames[:3]

    assert np.abs(led(1) - led(2)).max() > 1e-3


def test_only_the_inside_of_a_mask_changes(pipeline):
    mask = np.zeros((16, 16), bool)
    mask[:8, 8:] = True
    painted = pipeline.inpaint(CLIP, OTHER, mask=mask, **QUIET)
    np.testing.assert_array_equal(painted.frames[:, ~mask], CLIP.frames[:, ~mask])
    assert np.abs(painted.frames - CLIP.frames)[:, mask].max() > 1e-3
    taken = pipeline.inpaint(CLIP, OTHER, span=(0.25, 0.5), **QUIET)
    same = np.abs(taken.frames - CLIP.frames).max(axis=(1, 2, 3)) == 0
    assert same.tolist()[:4] == [True, True, False, False]
    assert_led_over_to(taken.frames[4:], CLIP.frames[4:])
    both = pipeline.inpaint(CLIP, OTHER, mask=mask, span=(0.25, 0.5), **QUIET)
    np.testing.assert_array_equal(both.frames[:2], CLIP.frames[:2])
    assert_led_over_to(both.frames[4:], CLIP.frames[4:])


def test_a_clip_in_a_larger_frame(pipeline):
    wide = pipeline.outpaint(CLIP, WORDS, size=(16, 32), **QUIET)
    np.testing.assert_array_equal(wide.frames[:, :, 8:24], CLIP.frames)
    with pytest.raises(ValueError, match="leaves no room"):
        pipeline.outpaint(CLIP, WORDS, size=(16, 16), **QUIET)
    by_aspect = pipeline.outpaint(CLIP, WORDS, aspect="2:1", **QUIET)
    np.testing.assert_array_equal(by_aspect.frames, wide.frames)
    large = pipeline.outpaint(clip_of(0, size=(160, 90)), WORDS, size=(16, 32), **QUIET)
    assert large.frames.shape == (5, 16, 32, 3)


def test_the_frame_around_a_clip_has_all_of_it():
    playground = MODELS["playground"]
    assert frame_around(playground, 64, 64, None, "16:9") == ((64, 64), (64, 112))
    assert frame_around(playground, 64, 64, None, "9:16") == ((64, 64), (112, 64))
    assert frame_around(playground, 60, 70, None, "1:1") == ((60, 70), (80, 80))
    assert frame_around(playground, 1080, 1920, None, "1:1") == ((48, 85), (96, 96))
    assert frame_around(playground, 1080, 1920, (64, 128), None) == ((64, 114), (64, 128))


def test_a_stream_is_endless_and_steered(pipeline):
    chunks = pipeline.stream(WORDS, seed=1, steps=2)
    frames = np.concatenate([next(chunks).frames for _ in range(7)])
    assert frames.shape[1:] == (16, 16, 3)
    assert [len(clip) for clip in pipeline.stream(WORDS, seconds=1.5, steps=2)] == [1, 2, 2, 2, 2, 2, 1]
    asked = iter([WORDS] * 4 + [OTHER] * 99)
    steered = [clip.frames for clip in pipeline.stream(lambda: next(asked), seconds=5 / 8, seed=1, steps=2)]
    assert np.abs(np.concatenate(steered)[1:] - frames[1:5]).max() > 1e-3


def test_edits_of_one_shape_share_their_programs(pipeline):
    pipeline.extend(CLIP, WORDS, seconds=0.5, guidance=2.0, **QUIET)
    before = programs.advance._cache_size()
    pipeline.extend(clip_of(7), OTHER, seconds=0.5, seed=9, guidance=3.0, **QUIET)
    pipeline.connect(CLIP, clip_of(1, 2), WORDS, seconds=0.25, guidance=2.0, **QUIET)
    pipeline.animate(CLIP.to_uint8()[0], WORDS, guidance=3.0, **QUIET)
    assert programs.advance._cache_size() == before
