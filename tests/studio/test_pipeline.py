import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

import sora_jax as sora
from sora_jax.diffusion import SAMPLERS, start, step_cache
from sora_jax.media import read_metadata
from sora_jax.models.dit import timesteps
from sora_jax.studio import programs
from sora_jax.studio.pipeline import Pipeline
from sora_jax.studio.request import resolve
from sora_jax.studio.sample import Sample, run_sample

# A batch of two everywhere, so that there is one program to compile.
PAIR = ["a red circle moves right", "a blue star spins"]


@pytest.fixture(scope="module")
def pipeline():
    return Pipeline(tiny_model.checkpoint())


@pytest.fixture(scope="module")
def pair(pipeline):
    return pipeline.generate(PAIR, seed=3, progress=False)


def test_a_clip_has_the_defaults_size_and_says_how_it_was_made(pair):
    clip = pair[0]
    assert clip.frames.shape == (5, 16, 16, 3)
    assert clip.frames.dtype == np.float32
    assert np.abs(clip.frames).max() <= 1
    assert clip.fps == 8
    made = {"prompt": PAIR[0], "seed": 3, "steps": 3, "guidance": 2.0, "sampler": "unipc", "frames": 5}
    assert made.items() <= clip.metadata.items()
    assert clip.metadata["model"] == "playground_tiny"


def test_the_metadata_makes_the_clip_again(pipeline, pair):
    about = [clip.metadata for clip in pair]
    same = ("steps", "guidance", "negative", "sampler", "frames", "fps")
    again = pipeline.generate(
        [one["prompt"] for one in about],
        seed=[one["seed"] for one in about],
        size=(about[0]["height"], about[0]["width"]),
        progress=False,
        **{name: about[0][name] for name in same},
    )
    np.testing.assert_array_equal(again[1].frames, pair[1].frames)


def test_prompt_seed_guidance_and_negative_each_matter(pipeline, pair):
    for change in ({"seed": 4}, {"guidance": 3.0}, {"negative": "a blue star spins"}):
        other = pipeline.generate(PAIR, **{"seed": 3, "progress": False, **change})
        assert np.abs(other[0].frames - pair[0].frames).max() > 1e-3, change
    other = pipeline.generate(PAIR[::-1], seed=3, progress=False)
    assert np.abs(other[0].frames - pair[0].frames).max() > 1e-3


def test_a_clip_does_not_depend_on_its_neighbours(pipeline, pair):
    clips = pipeline.generate(["a green square stays still", PAIR[1]], seed=[9, 4], progress=False)
    np.testing.assert_array_equal(clips[1].frames, pair[1].frames)
    variations = pipeline.generate(PAIR[1], seed=3, variations=2, progress=False)
    assert [one.metadata["seed"] for one in variations] == [3, 4]
    np.testing.assert_array_equal(variations[1].frames, pair[1].frames)


def test_an_unguided_euler_step_goes_along_the_denoisers_velocity(pipeline):
    request = resolve(pipeline.config, [PAIR[0]], seed=5, steps=1, guidance=1, sampler="euler")
    x = pipeline.sample(request).latents
    noise = jax.random.normal(jax.random.fold_in(jax.random.key(5), 0), x.shape[1:])
    text = pipeline.encode_text([PAIR[0]])
    assert text.shape == (1, 16, 8)
    v = pipeline.denoise(noise[None], jnp.full((1, x.shape[1]), 1000.0), text)
    np.testing.assert_allclose(x, noise[None] - v, atol=1e-4)
    for level, words in ((1000.0, text[0]), (np.full(x.shape[1], 1000.0), text)):
        np.testing.assert_allclose(pipeline.denoise(noise, level, words), v[0], atol=1e-5)


def test_padding_is_hidden_where_the_network_has_a_mask(pipeline):
    text, noise = pipeline.encode_text([PAIR[0]]), np.ones((3, 2, 2, 6), np.float32)
    assert not text[0, -1].any()
    shorter = pipeline.denoise(noise, 500.0, text[:, :-1])
    np.testing.assert_allclose(pipeline.denoise(noise, 500.0, text), shorter, atol=1e-5)
    seen = Pipeline(
        dataclasses.replace(
            tiny_model.checkpoint(), config=dataclasses.replace(tiny_model.CONFIG, mask_text=False)
        )
    )
    assert np.abs(seen.denoise(noise, 500.0, text) - shorter).max() > 1e-3


def test_noise_of_ones_own(pipeline, pair):
    keys = [jax.random.fold_in(jax.random.key(seed), 0) for seed in (3, 4)]
    noise = np.stack([jax.random.normal(key, (3, 2, 2, 6)) for key in keys])
    clips = pipeline.generate(PAIR, latents=noise, progress=False)
    np.testing.assert_allclose(clips[1].frames, pair[1].frames, atol=1e-6)
    assert clips[1].metadata["seed"] is None
    same = pipeline.generate(PAIR, latents=noise[1], progress=False)
    np.testing.assert_allclose(same[1].frames, pair[1].frames, atol=1e-6)
    assert np.abs(same[0].frames - pair[0].frames).max() > 1e-3
    with pytest.raises(ValueError, match=r"\(3, 2, 2, 6\), or of \(2, 3, 2, 2, 6\)"):
        pipeline.generate(PAIR, latents=noise[:1], progress=False)


def test_the_network_is_told_whole_timesteps_where_they_are_published(pipeline, monkeypatch):
    told = []
    monkeypatch.setattr(
        programs, "advance", lambda params, gen, cond, steps, cache, *, whole, **_: told.append(whole) or gen
    )
    published = Pipeline(
        dataclasses.replace(
            tiny_model.checkpoint(), config=dataclasses.replace(tiny_model.CONFIG, whole_timesteps=True)
        )
    )
    for model, sampler in ((pipeline, "unipc"), (published, "unipc"), (published, "euler")):
        request = resolve(model.config, PAIR, steps=1, sampler=sampler)
        with pytest.raises(ValueError, match="run the rest"):
            model.finish(model.advance(model.begin(request)))
    assert told == [False, True, False]


def test_whole_timesteps_have_no_fraction(pipeline):
    gen = start(jax.random.key(0), (1, 3, 2, 2, 6), [0.9009, 0.0], stepper=SAMPLERS["euler"].stepper)
    text = pipeline.encode_text([PAIR[0]])
    options = {"config": pipeline.config.dit, "dtype": pipeline.dtype}
    told = programs.Told(text)
    done = programs.advance(pipeline.params["dit"], gen, told, np.int32(1), whole=True, **options)
    v = programs.denoise(pipeline.params["dit"], gen.x, np.float32([900]), text, masked=False, **options)
    np.testing.assert_allclose(done.x, gen.x - 0.9009 * v, atol=1e-5)


def test_progress_counts_every_step(pipeline):
    seen = []
    pipeline.generate(PAIR, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


def test_one_program_for_all_seeds_words_and_guidance(pipeline, pair):
    before = programs.advance._cache_size(), programs.begin._cache_size()
    for options in ({"seed": 8}, {"guidance": 7.0}, {"guidance": [1.0, 2.0, 3.0]}):
        pipeline.generate(PAIR[::-1], progress=False, **options)
    assert (programs.advance._cache_size(), programs.begin._cache_size()) == before


def test_encode_gives_normalised_latents_that_decode_takes(pipeline, pair):
    config = dataclasses.replace(tiny_model.CONFIG.vae, latent_mean=(1.0,) * 6, latent_std=(2.0,) * 6)
    pixels = np.stack([clip.frames for clip in pair])
    latents = pipeline.encode(pixels)
    assert latents.shape == (2, 3, 2, 2, 6)
    np.testing.assert_allclose(pipeline.decode_batch(latents).shape, pixels.shape)
    scaled = programs.encode(pipeline.params["vae"], pixels, config=config, dtype=pipeline.dtype)
    np.testing.assert_allclose(scaled, (latents - 1) / 2, atol=1e-5)
    with pytest.raises(ValueError, match="nearest"):
        pipeline.encode(pixels[:, :4])


def test_timesteps_take_the_noisiest_of_a_token():
    sigma = jnp.arange(2 * 2 * 4 * 4, dtype=jnp.float32).reshape(2, 2, 4, 4) / 64
    tokens = timesteps(sigma, (1, 2, 2))
    assert tokens.shape == (2, 8)
    np.testing.assert_allclose(tokens[0, 0], 1000 * sigma[0, 0, 1, 1])
    assert timesteps(sigma[:, :, :1, :1], (1, 2, 2)).shape == (2, 2)


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
        pipeline.generate(PAIR, **{"progress": False, **wrong})


def test_the_public_face(pair, tmp_path):
    pipeline = sora.load(tiny_model.write(tmp_path / "model"))
    clips = pipeline.generate(PAIR, seed=3, progress=False)
    assert isinstance(clips[0], sora.Clip)
    assert np.abs(clips[0].frames - pair[0].frames).max() < 0.05  # the weights went through float16
    assert sora.read(clips[0].save(tmp_path / "clip.mp4")).frames.shape == (5, 16, 16, 3)
    with pytest.raises(AttributeError, match="load"):
        _ = sora.sore


def test_an_experiment_writes_its_clips_and_a_sheet(pipeline, pair, tmp_path):
    sample = Sample(prompts=tuple(PAIR), variations=2, batch=2, ending="png", seed=1)
    seen = []
    paths = run_sample(sample, pipeline, tmp_path, lambda done, total: seen.append((done, total)))
    assert [path.name[:3] for path in paths[:4]] == ["1-a", "2-a", "3-a", "4-a"]
    assert all(path.stat().st_size for path in paths)
    assert paths[4].name == "sheet.png"
    assert seen[-1] == (12, 12)
    assert seen == sorted(seen)
    # Clips 3 and 4 are of the second prompt, from seeds 3 and 4: the last is the pair's second.
    assert read_metadata(paths[3])["seed"] == 4
    assert read_metadata(paths[3])["prompt"] == PAIR[1]


def test_noise_is_the_same_in_every_batch():
    draw = jax.jit(lambda seeds: jax.vmap(jax.random.key)(seeds))
    one, three = draw(np.uint32([7])), draw(np.uint32([1, 7, 2]))
    assert jax.random.key_data(one)[0].tolist() == jax.random.key_data(three)[1].tolist()


def test_half_precision_and_a_text_encoder_on_the_host(pipeline, pair):
    half = Pipeline(tiny_model.checkpoint(), "bfloat16", offload=True)
    assert {type(leaf) for leaf in jax.tree.leaves(half.params["text"])} == {np.ndarray}
    clips = half.generate(PAIR, seed=3, progress=False)
    assert 1e-4 < np.abs(clips[0].frames - pair[0].frames).max() < 0.2


@pytest.mark.parametrize("cache", ["tea:0.3", "first-block:0.3"])
def test_steps_left_out_come_near(pipeline, cache):
    request = resolve(pipeline.config, PAIR, seed=3, steps=12)
    whole = pipeline.sample(request).latents
    done = pipeline.sample(dataclasses.replace(request, cache=step_cache(cache))).generation
    assert 2 <= int(done.cache["evaluations"]) < 12
    error = np.square(np.asarray(done.x - whole)).mean() / np.square(np.asarray(whole)).mean()
    assert 0 < error < 0.05
    every = dataclasses.replace(request, cache=step_cache(cache.split(":")[0] + ":1e-9"))
    done = pipeline.sample(every).generation
    assert int(done.cache["evaluations"]) == 12
    np.testing.assert_allclose(done.x, whole, atol=1e-4)


def test_the_cache_is_in_the_metadata(pipeline):
    clips = pipeline.generate(PAIR, seed=3, cache=0.3, progress=False)
    assert clips[0].metadata["cache"] == "tea:0.3"
    with pytest.raises(ValueError, match="first-block"):
        pipeline.generate(PAIR, cache="magic:1", progress=False)
