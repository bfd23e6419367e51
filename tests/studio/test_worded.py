"""Edits take presets, expansion and variations as generate does."""

from collections.abc import Iterator

import numpy as np
import pytest
from quick_pipeline import QuickPipeline

from sora_jax.media import Clip
from sora_jax.studio.edits import Card
from sora_jax.studio.expand import by_grammar
from sora_jax.studio.worded import worded

WORDS, OTHER = "a red circle moves right", "a blue star spins"
NIGHT = " on a plain navy background"
QUIET = {"steps": 1, "progress": False}
CLIP = Clip(np.tanh(np.random.default_rng(0).standard_normal((5, 16, 16, 3), np.float32)), 8.0)


def stream(pipeline, prompt) -> Iterator[Clip]:
    while True:
        yield Clip(CLIP.frames, CLIP.fps, {"prompt": prompt()})


@pytest.fixture(scope="module")
def pipeline():
    return QuickPipeline()


@pytest.mark.filterwarnings("ignore::sora_jax.studio.prompts.PromptWarning")
def test_words_are_changed_wherever_an_edit_has_them(pipeline):
    cards = [Card(at=0, prompt=WORDS), Card(at=0.25, image=CLIP), Card(at=0.5, prompt=OTHER)]
    made = {
        "remix": pipeline.remix(CLIP, WORDS, presets=["night"], **QUIET),
        "loop": pipeline.loop(WORDS, presets=["night"], **QUIET),
        "blend": pipeline.blend(CLIP, CLIP, (WORDS, OTHER), presets=["night"], **QUIET),
        "storyboard": pipeline.storyboard(cards, seconds=1, presets=["night"], **QUIET),
        "stream": next(worded(stream)(pipeline, lambda: WORDS, presets=["night"])),
    }
    both = [WORDS + NIGHT, OTHER + NIGHT]
    told = {name: clip.metadata["prompt"] for name, clip in made.items()}
    assert told == {
        "remix": both[0],
        "loop": both[0],
        "blend": both,
        "storyboard": [both[0], None, both[1]],
        "stream": both[0],
    }
    asked = {name: clip.metadata["asked"] for name, clip in made.items()}
    assert asked == {
        "remix": WORDS,
        "loop": WORDS,
        "blend": [WORDS, OTHER],
        "storyboard": [WORDS, None, OTHER],
        "stream": WORDS,
    }
    longer = pipeline.remix(CLIP, WORDS, expand=True, **QUIET)
    assert longer.metadata["prompt"] == by_grammar(WORDS)
    same = pipeline.remix(CLIP, by_grammar(WORDS), **QUIET)
    np.testing.assert_array_equal(longer.frames, same.frames)
    assert "asked" not in same.metadata
    with pytest.raises(ValueError, match="give prompts"):
        pipeline.blend(CLIP, CLIP, expand=True, **QUIET)


def test_variations_of_an_edit_have_seeds_of_their_own(pipeline):
    seen = []
    clips = pipeline.remix(
        CLIP, WORDS, variations=2, seed=3, steps=2, progress=lambda done, total: seen.append((done, total))
    )
    assert [clip.metadata["seed"] for clip in clips] == [3, 4]
    again = pipeline.remix(CLIP, WORDS, seed=4, steps=2, progress=False)
    np.testing.assert_array_equal(clips[1].frames, again.frames)
    assert seen == [(0, 4), (1, 4), (2, 4), (2, 4), (3, 4), (4, 4)]
    with pytest.raises(ValueError, match="3 seeds for 2 clips"):
        pipeline.remix(CLIP, WORDS, variations=2, seed=[1, 2, 3], **QUIET)
    with pytest.raises(ValueError, match="a stream is one clip"):
        pipeline.stream(WORDS, variations=2, **QUIET)
