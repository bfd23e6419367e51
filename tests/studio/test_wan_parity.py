"""Whole runs of a few steps beside diffusers' Wan pipelines, which load the same folder."""

import jax
import numpy as np
import pytest
from PIL import Image
from tiny_wan import checkpoint, picture

from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve
from sora_jax.weights import load, save_diffusers

PROMPT = "a red circle moves right"


@pytest.mark.parity
@pytest.mark.parametrize(
    ("kind", "pictures", "options"),
    [
        ("two images", 2, {}),
        ("image beside, experts", 1, {"guidance_2": 1.5}),
        ("first frame known", 1, {}),
        ("experts", 0, {"guidance_2": 1.5}),
    ],
)
def test_a_run_is_the_reference_s(kind, pictures, options, tmp_path):
    diffusers, torch = pytest.importorskip("diffusers"), pytest.importorskip("torch")

    made = checkpoint(kind)
    folder = save_diffusers(tmp_path / "wan", made.config, made.params, made.tokenizer)
    ours = Pipeline(load(folder))
    assert ours.config.networks == made.config.networks
    request = resolve(
        ours.config,
        [PROMPT],
        seed=3,
        size=(16, 32),
        frames=5,
        steps=4,
        guidance=2.5,
        negative="a blue star",
        **options,
    )
    shown = [picture(i, 16, 32) for i in range(pictures)]
    got = ours.sample(request, ours.given(request, shown)).latents

    pipeline = diffusers.WanImageToVideoPipeline if pictures else diffusers.WanPipeline
    theirs = pipeline.from_pretrained(folder, torch_dtype=torch.float32)
    theirs.set_progress_bar_config(disable=True)
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(3), 0), got.shape[1:])[None]
    images = dict(zip(("image", "last_image"), map(Image.fromarray, shown), strict=False))
    with torch.no_grad():
        latents = theirs(
            **images,
            prompt=PROMPT,
            negative_prompt="a blue star",
            height=16,
            width=32,
            num_frames=5,
            num_inference_steps=4,
            guidance_scale=2.5,
            guidance_scale_2=options.get("guidance_2"),
            latents=torch.tensor(np.asarray(noise).transpose(0, 4, 1, 2, 3)),
            output_type="latent",
            max_sequence_length=512,
        ).frames
    want = latents.numpy().transpose(0, 2, 3, 4, 1)
    assert np.linalg.norm(got - want) <= 1e-4 * np.linalg.norm(want)
