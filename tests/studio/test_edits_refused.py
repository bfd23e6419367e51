"""What no edit can make is refused in one sentence, before anything is made."""

import numpy as np
import pytest
import tiny_model

from sora_jax.media import Clip
from sora_jax.studio.edits import Card
from sora_jax.studio.pipeline import Pipeline

WORDS, OTHER = "a red circle moves right", "a blue star spins"
QUIET = {"steps": 2, "progress": False}
CLIP = Clip(
    np.tanh(np.random.default_rng(0).standard_normal((5, 16, 16, 3), np.float32)), 8.0, {"prompt": WORDS}
)


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda p: p.extend(CLIP, WORDS, seconds=0, **QUIET), "seconds is 0, 0 frames"),
        (lambda p: p.extend(CLIP, WORDS, seconds=float("inf"), **QUIET), "seconds is inf"),
        (lambda p: p.extend(CLIP, WORDS, seconds=1, direction="up", **QUIET), "forward, backward or both"),
        (lambda p: p.extend(CLIP, " ", seconds=1, **QUIET), "prompt"),
        (lambda p: p.remix(CLIP, WORDS, strength=1.5, **QUIET), "subtle, mild, strong, or a noise level"),
        (lambda p: p.recut(CLIP, [], WORDS, **QUIET), "nothing to keep"),
        (lambda p: p.recut(CLIP, [(0.5, 2)], WORDS, **QUIET), "doesn't lie in the clip, which lasts 0.625 s"),
        (lambda p: p.recut(CLIP, [(0, 0.25), (0, 0.25)], WORDS, **QUIET), "two moments overlap"),
        (lambda p: p.recut(CLIP, [(0, 0.25, 9)], WORDS, **QUIET), "would lie at 9 s"),
        (lambda p: p.storyboard([], seconds=1, **QUIET), "begins with a card at 0 s"),
        (
            lambda p: p.storyboard([Card(at=0, prompt=WORDS), Card(at=3, prompt=OTHER)], seconds=1, **QUIET),
            "outside the clip",
        ),
        (lambda p: p.inpaint(CLIP, WORDS, mask=np.ones((8, 8), bool), **QUIET), "make it of that size"),
        (lambda p: p.inpaint(CLIP, WORDS, mask=np.zeros((16, 16), bool), **QUIET), "nothing inside"),
        (lambda p: p.inpaint(CLIP, WORDS, **QUIET), "give a mask, a span of time, or both"),
        (lambda p: p.inpaint(CLIP, WORDS, span=(3, 4), **QUIET), "doesn't lie in the clip"),
        (lambda p: p.animate(None, WORDS, **QUIET), "no image to animate"),
        (lambda p: p.animate(None, WORDS, keyframes={9: CLIP}, **QUIET), "lies outside the clip"),
        (lambda p: p.blend(CLIP, Clip(CLIP.frames, 8), **QUIET), "give prompts, one of each"),
        (lambda p: next(p.stream([], steps=2)), "there are no prompts"),
        (lambda p: next(p.stream(WORDS, delay=-1)), "delay is -1"),
        (lambda p: next(p.stream(WORDS, seconds=0)), "at least 0.125, one frame"),
        (lambda p: next(p.stream(WORDS, seconds=-2)), "seconds is -2"),
        (lambda p: next(p.stream(WORDS, seconds=float("inf"))), "inf is no moment"),
        (lambda p: next(p.stream([WORDS] * 3, seconds=0.75)), "3 prompts .* 0.75 s have 2: .* at least 1 s"),
        (lambda p: p.recut(CLIP, [(0, float("inf"))], WORDS, **QUIET), "inf is no moment"),
        (lambda p: p.recut(CLIP, [(0, 0.25, float("nan"))], WORDS, **QUIET), "nan is no moment"),
        (lambda p: p.inpaint(CLIP, WORDS, span=(0, float("nan")), **QUIET), "nan is no moment"),
        (lambda p: p.animate(None, WORDS, keyframes={float("inf"): CLIP}, **QUIET), "inf is no moment"),
        (lambda p: p.storyboard([Card(at=1e308, prompt=WORDS)], seconds=1, fps=240, **QUIET), "is no moment"),
        (lambda p: p.extend(CLIP, WORDS, seconds=1, fps=0, **QUIET), "fps is 0 and must be above 0"),
        (lambda p: p.connect(CLIP, CLIP, WORDS, seconds=1, fps=0, **QUIET), "fps is 0 and must be above 0"),
        (lambda p: p.outpaint(CLIP, WORDS, size=(16, 32), fps=0, **QUIET), "fps is 0 and must be above 0"),
        (lambda p: p.extend(CLIP, WORDS, seconds=1, size="8192x8192", **QUIET), "8192x8192 .* GiB"),
        (lambda p: p.storyboard([Card(at=0, prompt=WORDS)], seconds=1, size="8192x8192", **QUIET), "GiB"),
        (lambda p: p.animate(CLIP, WORDS, keyframes={0.5: CLIP}, size="8192x8192", **QUIET), "GiB"),
        (lambda p: next(p.stream(WORDS, size="8192x8192")), "GiB"),
        (
            lambda p: p.extend(CLIP, WORDS, seconds=1, seed="a", **QUIET),
            "seed is a and must be a whole number",
        ),
        (lambda p: p.animate(CLIP, WORDS, keyframes={0: CLIP}, **QUIET), "at 0 and 0 s share a latent"),
        (
            lambda p: p.animate(CLIP, WORDS, keyframes={0.125: CLIP, 0.25: CLIP}, **QUIET),
            "at 0.125 and 0.25 s share a latent, which shows one: move one of them by 0.25 s",
        ),
        (lambda p: p.animate(CLIP, WORDS, keyframes={0.5: CLIP}, last_image=CLIP, **QUIET), "share a latent"),
        (
            lambda p: p.inpaint(CLIP, WORDS, mask=np.ones((16, 16), np.uint8), **QUIET),
            "mask is uint8.*mask > 127",
        ),
        (lambda p: p.inpaint(CLIP, WORDS, mask=np.ones((4, 16, 16), bool), **QUIET), "make it of that size"),
        (lambda p: p.blend(CLIP, CLIP, WORDS, **QUIET), "give two, one of each clip"),
        (lambda p: p.blend(CLIP, CLIP, [WORDS], **QUIET), "give two, one of each clip"),
    ],
)
def test_nonsense_is_refused(pipeline, edit, says):
    with pytest.raises(ValueError, match=says):
        edit(pipeline)
