import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

import sora_jax as sora
from sora_jax.models.vae import denormalize
from sora_jax.studio import programs
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.sample import Sample, run_sample

PROMPT = "a red circle moves right"
# Another batch is another program, which may round differently.
ROUNDING = 2e-4


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


@pytest.fixture(scope="module")
def clip(pipeline):
    return pipeline.generate(PROMPT, seed=3, progress=False)


def test_a_clip_has_the_defaults_size_and_says_how_it_was_made(clip):
    assert clip.frames.shape == (5, 16, 16, 3)
    assert clip.frames.dtype == np.float32
    assert np.abs(clip.frames).max() <= 1
    assert clip.fps == 8
    made = {"prompt": PROMPT, "seed": 3, "steps": 3, "guidance": 2.0, "sampler": "unipc", "frames": 5}
    assert made.items() <= clip.metadata.items()
    assert clip.metadata["model"] == "playground_tiny"


def test_the_metadata_makes_the_clip_again(pipeline, clip):
    known = ("seed", "steps", "guidance", "negative", "sampler", "frames", "fps")
    settings = {name: clip.metadata[name] for name in known}
    size = (clip.metadata["height"], clip.metadata["width"])
    again = pipeline.generate(clip.metadata["prompt"], size=size, progress=False, **settings)
    np.testing.assert_array_equal(again.frames, clip.frames)


def test_prompt_seed_guidance_and_negative_each_matter(pipeline, clip):
    changes = ({"seed": 4}, {"guidance": 3.0}, {"negative": "a blue star spins"}, {"sampler": "euler"})
    for change in changes:
        other = pipeline.generate(PROMPT, **{"seed": 3, "progress": False, **change})
        assert np.abs(other.frames - clip.frames).max() > 10 * ROUNDING, change
    other = pipeline.generate("a blue star spins", seed=3, progress=False)
    assert np.abs(other.frames - clip.frames).max() > 10 * ROUNDING


def test_a_clip_does_not_depend_on_its_neighbours(pipeline, clip):
    clips = pipeline.generate(["a blue star spins", PROMPT], seed=[9, 3], progress=False)
    np.testing.assert_allclose(clips[1].frames, clip.frames, atol=ROUNDING)
    variations = pipeline.generate(PROMPT, seed=2, variations=2, progress=False)
    assert [one.metadata["seed"] for one in variations] == [2, 3]
    np.testing.assert_allclose(variations[1].frames, clip.frames, atol=ROUNDING)


def test_a_guidance_of_one_is_the_prompt_alone(pipeline):
    alone = pipeline.generate(PROMPT, guidance=1, progress=False)
    # The last step has guidance, so that the program with both prompts runs, at a scale of 1.
    almost = pipeline.generate(PROMPT, guidance=[1, 1, 1.000001], progress=False)
    np.testing.assert_allclose(almost.frames, alone.frames, atol=ROUNDING)


def test_progress_counts_every_step(pipeline):
    seen = []
    pipeline.generate(PROMPT, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_one_program_a_shape(pipeline, clip):
    before = programs.advance._cache_size()
    for options in ({"seed": 8}, {"guidance": 7.0}, {"guidance": [1.0, 2.0, 3.0]}):
        pipeline.generate("a blue star spins", progress=False, **options)
    assert programs.advance._cache_size() == before


def test_encode_and_decode_are_inverse_maps_of_shapes(pipeline, clip):
    latents = pipeline.encode(clip)
    assert latents.shape == (3, 2, 2, 6)
    assert pipeline.decode(latents, fps=12).frames.shape == clip.frames.shape
    assert pipeline.decode(latents).fps == 8
    with pytest.raises(ValueError, match="nearest"):
        pipeline.encode(clip.frames[None, :4])


def test_text_and_denoise(pipeline):
    text, mask = pipeline.encode_text(["", PROMPT])
    assert text.shape == (2, 16, 8)
    assert mask.sum(axis=1).tolist() == [1, 6]
    x = jnp.zeros((2, 3, 2, 2, 6))
    one = pipeline.denoise(x, jnp.full((2,), 500.0), text, mask)
    frames = pipeline.denoise(x, jnp.full((2, 3), 500.0), text, mask)
    np.testing.assert_allclose(one, frames, atol=1e-5)


def test_timesteps_take_the_noisiest_of_a_token():
    sigma = jnp.arange(2 * 2 * 4 * 4, dtype=jnp.float32).reshape(2, 2, 4, 4) / 64
    tokens = programs.timesteps(sigma, (1, 2, 2))
    assert tokens.shape == (2, 8)
    np.testing.assert_allclose(tokens[0, 0], 1000 * sigma[0, 0, 1, 1])
    assert programs.timesteps(sigma[:, :, :1, :1], (1, 2, 2)).shape == (2, 2)


def test_latents_are_normalised(pipeline, clip):
    config = tiny_model.CONFIG.vae
    z = pipeline.encode(clip)[None]
    np.testing.assert_allclose(denormalize(z, config), z)  # mean 0, deviation 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"size": "60x16"}, "56 and 64"),
        ({"frames": 4}, "3 and 5"),
        ({"sampler": "magic"}, "unipc"),
        ({"steps": 0}, "steps"),
        ({"variations": 0}, "variations"),
        ({"size": (8192, 8192), "frames": 4097}, "GiB"),
    ],
)
def test_what_does_not_fit_is_refused(pipeline, wrong, says):
    with pytest.raises(ValueError, match=says):
        pipeline.generate(PROMPT, progress=False, **wrong)


def test_the_public_face(tmp_path):
    pipeline = sora.load(tiny_model.write(tmp_path / "model"))
    path = pipeline.generate(PROMPT, progress=False).save(tmp_path / "clip.mp4")
    assert sora.read(path).frames.shape == (5, 16, 16, 3)
    assert sora.Clip is type(pipeline.generate(PROMPT, progress=False))
    with pytest.raises(AttributeError, match="load"):
        _ = sora.sore


def test_an_experiment_writes_its_clips_and_a_sheet(pipeline, tmp_path):
    sample = Sample(prompts=(PROMPT, "a blue star spins"), variations=2, batch=2, ending="gif", seed=5)
    seen = []
    paths = run_sample(sample, pipeline, tmp_path, lambda done, total: seen.append((done, total)))
    assert [path.suffix for path in paths] == [".gif"] * 4 + [".png"]
    assert all(path.stat().st_size for path in paths)
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)
    alone = pipeline.generate("a blue star spins", seed=7, progress=False)
    assert np.abs(sora.read(paths[2]).frames[0] - alone.frames[0]).mean() < 0.1  # a GIF's palette


def test_noise_is_the_same_in_every_batch():
    draw = jax.jit(lambda seeds: jax.vmap(jax.random.key)(seeds))
    one, three = draw(np.uint32([7])), draw(np.uint32([1, 7, 2]))
    assert jax.random.key_data(one)[0].tolist() == jax.random.key_data(three)[1].tolist()
