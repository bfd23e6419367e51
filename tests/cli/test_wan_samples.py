"""Each published model has a sampling file that says what its config says."""

import runpy
from pathlib import Path

import pytest

from sora_jax.models.config import MODELS
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Sample

FOLDER = Path(__file__).parents[2] / "experiments" / "sample"
NAMES = [name for name in MODELS if name.startswith("wan")]


@pytest.mark.parametrize("name", NAMES)
def test_the_file_s_settings_are_the_model_s(name):
    sample = runpy.run_path(str(FOLDER / f"{name}.py"))["SAMPLE"]
    assert isinstance(sample, Sample)
    assert sample.model.startswith("Wan-AI/Wan2.")
    config = MODELS[name]
    settings = {
        field: getattr(sample, field)
        for field in ("seconds", "fps", "size", "steps", "guidance", "guidance_2", "sampler")
    }
    assert resolve(config, sample.prompts, **settings) == resolve(config, sample.prompts)


def test_there_are_no_others():
    assert sorted(path.stem for path in FOLDER.glob("wan*.py")) == sorted(NAMES)
