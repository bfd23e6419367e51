import dataclasses
import json
import math

import pytest

from sora_jax.models.config import MODELS, from_json, to_json, vae_from_json
from sora_jax.weights.shapes import parameter_shapes


@pytest.mark.parametrize("name", MODELS)
def test_json_keeps_every_field(name):
    assert from_json(to_json(MODELS[name])) == MODELS[name]
    assert MODELS[name].name == name


def test_the_named_models_are_these():
    wan2_1 = {"t2v_1_3b", "t2v_14b", "i2v_14b_480p", "i2v_14b_720p", "flf2v_14b_720p"}
    wan2_2 = {"t2v_a14b", "i2v_a14b", "ti2v_5b"}
    named = {f"wan2_1_{name}" for name in wan2_1} | {f"wan2_2_{name}" for name in wan2_2}
    assert set(MODELS) == {"playground"} | named


# Of each published denoiser; the parity tests count the reference's at full size.
COUNTS = {
    "wan2_1_t2v_1_3b": 1_418_996_800,
    "wan2_1_t2v_14b": 14_288_491_584,
    "wan2_1_i2v_14b_480p": 16_394_878_784,
    "wan2_1_i2v_14b_720p": 16_394_878_784,
    "wan2_1_flf2v_14b_720p": 16_395_536_704,
    "wan2_2_t2v_a14b": 14_288_491_584,
    "wan2_2_i2v_a14b": 14_288_901_184,
    "wan2_2_ti2v_5b": 4_999_787_712,
}


@pytest.mark.parametrize(("name", "count"), COUNTS.items())
def test_published_counts(name, count):
    assert sum(math.prod(shape) for shape in parameter_shapes(MODELS[name].dit).values()) == count


def edited(edit):
    tree = json.loads(to_json(MODELS["wan2_2_ti2v_5b"]))
    edit(tree)
    return json.dumps(tree)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda t: t["dit"].pop("width"), r"config dit lacks width"),
        (lambda t: t["dit"].update(widht=3), r"config dit has unknown widht"),
        (lambda t: t.pop("vae"), r"the config lacks vae"),
        (lambda t: t.update(dit=3), r"config dit is 3"),
        (lambda t: t["dit"].update(width="256"), r"config dit.width is '256' and must be int"),
        (lambda t: t["dit"].update(width=True), r"config dit.width is True"),
        (lambda t: t["dit"].update(patch=[1, 1]), r"config dit.patch is \[1, 1\]"),
        (lambda t: t["vae"].update(latent_std=["a"] * 48), r"config vae.latent_std\[0\] is 'a'"),
        (lambda t: t["defaults"].update(sampler="magic"), r"config defaults.sampler is 'magic'"),
        (lambda t: t["defaults"].update(steps=0), r"config defaults: steps is 0"),
        (lambda t: t["defaults"].update(width=65), r"65"),
        (lambda t: t["text"].update(width=64), r"text of width 4096 and the encoder gives 64"),
        (lambda t: t["dit"].update(in_channels=16), r"the DiT goes from 16 to 48"),
        (lambda t: t.update(flow_shift=-1.0), r"flow_shift is -1.0"),
        (lambda t: t.update(boundary_ratio=1.5), r"boundary_ratio is 1.5 and must lie between"),
        (lambda t: t["defaults"].update(guidance_2=3.0), r"guidance_2 is for a second expert"),
        (lambda t: t["dit"].update(image_width=8), r"image tokens of width 8 and the encoder gives None"),
        (lambda t: t["dit"].update(image_positions=8), r"image_positions is set and image_width isn't"),
    ],
)
def test_what_is_wrong_is_named(edit, match):
    with pytest.raises(ValueError, match=match):
        from_json(edited(edit))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(ValueError, match="config"):
        from_json(text)


def test_what_has_a_default_may_be_missing():
    without = edited(
        lambda t: [t.pop("boundary_ratio"), t["dit"].pop("image_width"), t["defaults"].pop("steps")]
    )
    assert from_json(without) == MODELS["wan2_2_ti2v_5b"]


def test_what_an_image_needs_is_checked():
    wan = MODELS["wan2_1_flf2v_14b_720p"]
    with pytest.raises(ValueError, match="image_positions is 257 and must be twice the image encoder's 257"):
        dataclasses.replace(wan, dit=dataclasses.replace(wan.dit, image_positions=257))
    with pytest.raises(ValueError, match="with 20 more coming in if it needs an image"):
        dataclasses.replace(wan, dit=dataclasses.replace(wan.dit, in_channels=32))


def test_a_model_has_its_networks_and_a_noise_level_its_expert():
    assert list(MODELS["wan2_1_i2v_14b_480p"].networks) == ["dit", "vae", "text", "image"]
    assert list(MODELS["wan2_2_t2v_a14b"].networks) == ["dit", "dit_2", "vae", "text"]
    assert [MODELS["wan2_2_t2v_a14b"].expert(s) for s in (1.0, 0.875, 0.87, 0.0)] == ["dit"] * 2 + [
        "dit_2"
    ] * 2
    assert MODELS["wan2_1_t2v_14b"].expert(0.1) == "dit"


def test_a_whole_number_may_stand_for_a_float():
    assert from_json(edited(lambda t: t.update(flow_shift=1))).flow_shift == 1.0


def test_a_default_size_that_the_patch_does_not_divide_is_refused():
    wan = MODELS["wan2_1_t2v_1_3b"]
    with pytest.raises(ValueError, match="multiples of the patch"):
        dataclasses.replace(wan, defaults=dataclasses.replace(wan.defaults, height=488))


def test_a_vae_alone_has_its_json_too():
    vae = MODELS["playground"].vae
    assert vae_from_json(json.dumps(dataclasses.asdict(vae))) == vae
    with pytest.raises(ValueError, match="lacks base_width"):
        vae_from_json("{}")
