"""Examples of docs/studio.md do what the page says of them."""

import re
from pathlib import Path

import numpy as np
import pytest
from quick_pipeline import QuickPipeline

from sora_jax.media import Clip

PAGE = (Path(__file__).parents[2] / "docs" / "studio.md").read_text(encoding="utf-8")
WORDS = "a green square stays still"


class Recorder:
    """In place of a pipeline: generates noise, and shows what `recut` is asked."""

    def __init__(self):
        self.asked = []

    def generate(self, prompt, **options):
        frames = np.tanh(np.random.default_rng(0).standard_normal((17, 16, 16, 3), np.float32))
        return Clip(frames, 8.0)

    def recut(self, clip, keep, prompt, *, seconds):
        self.asked.append((clip, keep, seconds))


def asked():
    """What the page's example of inserting and removing frames asks for."""
    [example] = re.findall(r"```python\n(clip = .*?pipeline\.recut.*?)```", PAGE, re.DOTALL)
    recorder = Recorder()
    exec(example, {"pipeline": recorder})
    return recorder.asked


def test_frames_are_inserted_and_removed():
    pipeline = QuickPipeline()
    quiet = {"steps": 1, "progress": False}
    (clip, longer, seconds), (_, shorter, fewer) = asked()
    made = pipeline.recut(clip, longer, WORDS, seconds=seconds, **quiet)
    assert len(made) == 17 + 4
    np.testing.assert_array_equal(made.frames[:8], clip.frames[:8])
    np.testing.assert_array_equal(made.frames[12 + 2 :], clip.frames[8 + 2 :])  # after two that fade over
    made = pipeline.recut(clip, shorter, WORDS, seconds=fewer, **quiet)
    assert len(made) == 17 - 5 + 2
    np.testing.assert_array_equal(made.frames[:6], clip.frames[:6])
    np.testing.assert_array_equal(made.frames[8 + 2 :], clip.frames[11 + 2 :])


@pytest.mark.parametrize("picture", re.findall(r"\((studio/\w+\.gif)\)", PAGE))
def test_each_picture_is_there_with_its_experiment(picture):
    root = Path(__file__).parents[2]
    assert (root / "docs" / picture).stat().st_size < 800_000
    assert (root / "experiments" / "sample" / f"playground_{Path(picture).stem}.py").exists()
