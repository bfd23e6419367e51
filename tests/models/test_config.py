import dataclasses
import json

import pytest

from sora_jax.models.config import MODELS, from_json, to_json, vae_from_json


@pytest.mark.parametrize("name", MODELS)
def test_json_keeps_every_field(name):
    assert from_json(to_json(MODELS[name])) == MODELS[name]
    assert MODELS[name].name == name


def test_the_named_models_are_these():
    assert set(MODELS) == {"playground", "wan2_1_t2v_1_3b", "wan2_1_t2v_14b", "wan2_2_ti2v_5b"}


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
    ],
)
def test_what_is_wrong_is_named(edit, match):
    with pytest.raises(ValueError, match=match):
        from_json(edited(edit))


@pytest.mark.parametrize("text", ["", "{", "[]", "null"])
def test_what_is_no_config_is_refused(text):
    with pytest.raises(ValueError, match="config"):
        from_json(text)


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
