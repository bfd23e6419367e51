"""A folder of clips to an adapter or a whole model, and the same again from the run's checkpoint alone."""

import dataclasses

import jax
import numpy as np
import pytest
import tiny_model

from sora_jax.data.clips import ClipsConfig
from sora_jax.evals.runs import export, run
from sora_jax.media import Clip
from sora_jax.models.lora import LoRAConfig
from sora_jax.train.finetune import FineTuneRun
from sora_jax.weights import load

RUN = FineTuneRun(
    model=tiny_model.CONFIG,
    start_from="given",
    data=ClipsConfig(folder="given", height=16, width=16, frames=5, fps=8.0),
    lora=LoRAConfig(rank=2, alpha=2.0),
    steps=1,
    batch_size=8,
    sample_every=1,
)


@pytest.mark.slow
@pytest.mark.parametrize("lora", [RUN.lora, None], ids=["lora", "whole"])
def test_what_a_run_leaves_can_be_made_again_from_its_checkpoint(lora, tmp_path):
    base = tiny_model.write(tmp_path / "base")
    (tmp_path / "clips").mkdir()
    Clip(np.zeros((5, 16, 16, 3), np.float32), 8.0).save(tmp_path / "clips" / "gray.mp4")
    (tmp_path / "clips" / "gray.txt").write_text("a gray clip")
    data = dataclasses.replace(RUN.data, folder=str(tmp_path / "clips"))
    with jax.numpy_dtype_promotion("standard"):
        run(dataclasses.replace(RUN, start_from=str(base), data=data, lora=lora), tmp_path / "run")
    export(tmp_path / "run", tmp_path / "again")
    left = sorted((tmp_path / "run" / "weights").iterdir())
    assert [path.name for path in left] == sorted(path.name for path in (tmp_path / "again").iterdir())
    for path in left:
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    if lora is None:
        before, after = load(base).params, load(tmp_path / "again").params
        assert np.any(before["dit"]["head"]["kernel"] != after["dit"]["head"]["kernel"])
        np.testing.assert_array_equal(before["vae"]["moments"]["kernel"], after["vae"]["moments"]["kernel"])
