"""LoRA files there and back, in every layout, and against diffusers and PEFT themselves."""

import json

import jax
import numpy as np
import pytest
import tiny_model
from flax import linen as nn
from safetensors.numpy import load_file, save_file

from sora_jax.cli.main import main
from sora_jax.models.dit import DiT, DiTConfig
from sora_jax.models.lora import LoRAConfig, apply_lora, init_lora
from sora_jax.studio.pipeline import Pipeline, load
from sora_jax.studio.programs import denoise
from sora_jax.weights import lora_files as files
from sora_jax.weights.lora_files import load_loras, parse_lora, read_lora, save_lora

EVERY = LoRAConfig(
    rank=2, alpha=3.0, targets=r"(blocks|time|text|time_modulation|head)(/.*)?/kernel|head/kernel"
)


@pytest.fixture(scope="module")
def params():
    return tiny_model.checkpoint().params["dit"]


@pytest.fixture(scope="module")
def lora(params):
    rng = np.random.default_rng(0)
    return jax.tree.map(
        lambda a: rng.standard_normal(a.shape, np.float32) * 0.3,
        dict(init_lora(params, EVERY, jax.random.key(0))),
    )


@pytest.fixture
def file(lora, tmp_path):
    return save_lora(tmp_path / "lora.safetensors", lora, EVERY.scale)


def close(a, b, tolerance=1e-6):
    jax.tree.map(lambda x, y: np.testing.assert_allclose(x, y, atol=tolerance), a, b)


def test_there_and_back(params, lora, file):
    back = read_lora(file, params)
    assert back.keys() == lora.keys()
    for path in lora:
        np.testing.assert_array_equal(back[path]["a"], lora[path]["a"])
        np.testing.assert_allclose(back[path]["b"], EVERY.scale * lora[path]["b"], rtol=1e-6)
    close(load_loras(params, [f"{file}:0.5"]), apply_lora(params, lora, 0.5 * EVERY.scale))


def test_the_file_has_diffusers_names_and_the_same_bytes_again(lora, file, tmp_path):
    tensors = load_file(file)
    assert tensors["transformer.blocks.1.attn2.to_out.0.lora_A.weight"].shape == (2, 16)
    assert tensors["transformer.proj_out.lora_B.weight"].shape == (6, 2)
    again = save_lora(tmp_path / "again" / "lora.safetensors", lora, EVERY.scale)
    assert again.read_bytes() == file.read_bytes()


ORIGINAL = {
    "blocks.0.attn1.to_q": "blocks.0.self_attn.q",
    "blocks.1.attn2.to_out.0": "blocks.1.cross_attn.o",
    "blocks.1.ffn.net.0.proj": "blocks.1.ffn.0",
    "condition_embedder.time_embedder.linear_2": "time_embedding.2",
    "condition_embedder.time_proj": "time_projection.1",
    "condition_embedder.text_embedder.linear_1": "text_embedding.0",
    "proj_out": "head.head",
}


@pytest.mark.parametrize("layout", ["diffusion_model", "kohya", "peft", "bare"])
def test_other_layouts_are_the_same_adapter(params, lora, file, tmp_path, layout):
    """Only some layers, with an alpha each where the layout has one."""
    tensors, kept = load_file(file), {}
    for name, original in ORIGINAL.items():
        a, b = (tensors[f"transformer.{name}.lora_{kind}.weight"] for kind in "AB")
        if layout == "peft":
            kept |= {f"base_model.model.{name}.lora_A.weight": a, f"base_model.model.{name}.lora_B.weight": b}
        elif layout == "bare":
            kept |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b}
        else:
            stem = f"diffusion_model.{original}"
            stem = stem if layout != "kohya" else f"lora_unet_{original.replace('.', '_')}"
            kept |= {f"{stem}.lora_down.weight": a, f"{stem}.lora_up.weight": b}
            kept[f"{stem}.alpha"] = np.array(4.0, np.float32)
    save_file(kept, tmp_path / "adapter_model.safetensors")
    scale = 2.0 if layout in ("diffusion_model", "kohya") else 1.0
    if layout == "peft":
        about = {"r": 2, "lora_alpha": 8.0, "use_rslora": True, "alpha_pattern": {"attn1.to_q": 4.0}}
        (tmp_path / "adapter_config.json").write_text(json.dumps(about))
        scale = 8.0 / 2**0.5
    read = read_lora(tmp_path, params)
    assert set(read) == {
        "blocks/self_attention/query/kernel",
        "blocks/cross_attention/out/kernel",
        "blocks/ffn_in/kernel",
        "time/outer/kernel",
        "time_modulation/kernel",
        "text/inner/kernel",
        "head/kernel",
    }
    query, out = read["blocks/self_attention/query/kernel"], read["blocks/cross_attention/out/kernel"]
    own = scale / 2 if layout == "peft" else scale
    np.testing.assert_allclose(query["b"][0], own * lora["blocks/self_attention/query/kernel"]["b"][0])
    np.testing.assert_allclose(
        out["b"][1], scale * lora["blocks/cross_attention/out/kernel"]["b"][1], rtol=1e-6
    )
    assert not np.any(query["b"][1])  # a block that the file leaves out
    np.testing.assert_allclose(read["head/kernel"]["b"], scale * lora["head/kernel"]["b"], rtol=1e-6)


def test_layers_of_other_ranks_are_one_stack(params, file, tmp_path):
    tensors = load_file(file)
    name = "transformer.blocks.1.attn1.to_q"
    rng = np.random.default_rng(1)
    tensors[f"{name}.lora_A.weight"] = rng.standard_normal((5, 16), np.float32)
    tensors[f"{name}.lora_B.weight"] = rng.standard_normal((16, 5), np.float32)
    save_file(tensors, tmp_path / "mixed.safetensors")
    read = read_lora(tmp_path / "mixed.safetensors", params)["blocks/self_attention/query/kernel"]
    assert read["a"].shape == (2, 16, 5)
    expected = tensors[f"{name}.lora_B.weight"] @ tensors[f"{name}.lora_A.weight"]
    np.testing.assert_allclose(read["a"][1] @ read["b"][1], expected.T, rtol=1e-5, atol=1e-5)
    assert not np.any(read["a"][0][:, 2:])
    written = save_lora(tmp_path / "out.safetensors", read_lora(tmp_path / "mixed.safetensors", params), 1.0)
    close(load_loras(params, [written]), load_loras(params, [tmp_path / "mixed.safetensors"]))


def test_biases_are_added_and_norms_that_did_not_change_passed_over(params, tmp_path):
    bias = np.arange(16, dtype=np.float32)
    stem = "diffusion_model.blocks.1.cross_attn"
    tensors = {
        f"{stem}.v.diff_b": bias,
        f"{stem}.norm_k.diff": np.zeros(16, np.float32),
        "diffusion_model.blocks.0.norm3.diff_b": np.zeros(16, np.float32),
    }
    save_file(tensors, tmp_path / "bias.safetensors")
    read = read_lora(tmp_path / "bias.safetensors", params)
    assert set(read) == {"blocks/cross_attention/value/bias"}
    before = params["blocks"]["cross_attention"]["value"]
    after = load_loras(params, [(tmp_path / "bias.safetensors", 2.0)])["blocks"]["cross_attention"]["value"]
    np.testing.assert_array_equal(after["kernel"], before["kernel"])
    np.testing.assert_array_equal(after["bias"][0], before["bias"][0])
    np.testing.assert_allclose(after["bias"][1] - before["bias"][1], 2 * bias, atol=1e-5)


Q = "transformer.blocks.0.attn1.to_q"


def drop(tensors, metadata):
    tensors.pop(f"{Q}.lora_B.weight")


def unknown(tensors, metadata):
    tensors["transformer.blocks.7.attn1.to_q.lora_A.weight"] = np.zeros((2, 16), np.float32)


def bias(tensors, metadata):
    tensors[f"{Q}.lora_B.bias"] = np.zeros(15, np.float32)


def norm(tensors, metadata):
    tensors["diffusion_model.blocks.0.self_attn.norm_q.diff"] = np.full(16, 0.1, np.float32)


def magnitude(tensors, metadata):
    tensors[f"{Q}.lora_magnitude_vector"] = np.ones(16, np.float32)


def wide(tensors, metadata):
    tensors[f"{Q}.lora_A.weight"] = np.zeros((2, 17), np.float32)


def high(tensors, metadata):
    tensors[f"{Q}.lora_A.weight"] = np.zeros((17, 16), np.float32)
    tensors[f"{Q}.lora_B.weight"] = np.zeros((16, 17), np.float32)


def infinite(tensors, metadata):
    tensors[f"{Q}.lora_A.weight"][0, 0] = np.inf


def twice(tensors, metadata):
    tensors["diffusion_model.blocks.0.self_attn.q.lora_A.weight"] = np.zeros((2, 16), np.float32)


def alphas(tensors, metadata):
    tensors[f"{Q}.alpha"] = np.zeros(3, np.float32)


def empty(tensors, metadata):
    tensors.clear()
    metadata["note"] = "nothing"


def no_json(tensors, metadata):
    metadata["lora_adapter_metadata"] = "[" * 100_000


def no_object(tensors, metadata):
    metadata["lora_adapter_metadata"] = "[]"


def no_number(tensors, metadata):
    metadata["lora_adapter_metadata"] = json.dumps({"transformer.lora_alpha": "much"})


def expression(tensors, metadata):
    metadata["lora_adapter_metadata"] = json.dumps({"alpha_pattern": {"(a+)+$": 1.0}})


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (drop, "lacks blocks.0.attn1.to_q.lora_B.weight"),
        (unknown, "transformer.blocks.7.attn1.to_q.lora_A.weight, which is no factor"),
        (bias, r"lora_B.bias has shape \[15\], and this network's layer \[16\]"),
        (norm, "norm_q.diff, which is no factor"),
        (magnitude, "lora_magnitude_vector, which is no factor"),
        (wide, r"has factors \[2, 17\] and \[16, 2\]"),
        (high, r"r of at most 16"),
        (infinite, "aren't finite"),
        (twice, "twice"),
        (alphas, r"alpha has shape \[3\]"),
        (empty, "holds no tensors"),
        (no_json, "is no JSON"),
        (no_object, "no JSON object"),
        (no_number, "alphas that are no numbers"),
        (expression, "is an expression"),
    ],
)
def test_a_file_that_lies_is_refused(params, file, tmp_path, edit, says):
    tensors, metadata = load_file(file), {}
    edit(tensors, metadata)
    save_file(tensors, tmp_path / "bad.safetensors", metadata)
    with pytest.raises(ValueError, match=says):
        read_lora(tmp_path / "bad.safetensors", params)


def test_what_is_no_file_is_refused(params, file, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="there is no LoRA file"):
        read_lora(tmp_path / "absent.safetensors", params)
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no LoRA"):
        read_lora(tmp_path / "empty", params)
    (tmp_path / "cut.safetensors").write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match="cut short"):
        read_lora(tmp_path / "cut.safetensors", params)
    monkeypatch.setattr(files, "_SLACK", -(10**9))
    with pytest.raises(ValueError, match="more than any adapter"):
        read_lora(file, params)


def test_what_can_t_be_written_leaves_nothing(params, lora, tmp_path):
    patch = {"patch_embedding/kernel": {"a": np.zeros((6, 2)), "b": np.zeros((2, 16))}}
    with pytest.raises(ValueError, match="patch_embedding/kernel can't be written"):
        save_lora(tmp_path / "x" / "a.safetensors", patch, 1.0)
    broken = jax.tree.map(lambda a: a * np.nan, lora)
    with pytest.raises(ValueError, match="diverged"):
        save_lora(tmp_path / "x" / "a.safetensors", broken, 1.0)
    with pytest.raises(ValueError, match=r"ends in \.safetensors"):
        save_lora(tmp_path / "x" / "a.bin", lora, 1.0)
    assert not (tmp_path / "x").exists()


def test_a_weight_stands_after_a_colon():
    assert parse_lora("a.safetensors:0.8") == ("a.safetensors", 0.8)
    assert parse_lora("a.safetensors") == ("a.safetensors", 1.0)
    assert parse_lora("C:/models/a.safetensors:-1") == ("C:/models/a.safetensors", -1.0)
    assert parse_lora("C:/models/a.safetensors") == ("C:/models/a.safetensors", 1.0)


def test_a_pipeline_with_a_lora(params, lora, file, tmp_path):
    plain = Pipeline(tiny_model.checkpoint())
    adapted = plain.with_lora((file, 0.5), f"{file}:0.25")
    close(adapted.params["dit"], apply_lora(params, lora, 0.75 * EVERY.scale))
    close(plain.params["dit"], params)
    folder = tiny_model.write(tmp_path / "model")
    close(load(folder, lora=[f"{file}:2"]).params["dit"], apply_lora(params, lora, 2 * EVERY.scale), 1e-3)
    with pytest.raises(ValueError, match=r"weight of LoRA .* is nan"):
        plain.with_lora((file, float("nan")))


def test_the_command_takes_several(file, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SORA_JAX_CACHE", str(tmp_path / "cache"))
    folder = tiny_model.write(tmp_path / "model")
    command = ["generate", "a red circle", "--model", str(folder), "--steps", "1", "--frames", "1"]
    outputs = []
    for loras in ([], [f"{file}:0"], [f"{file}:3", "--lora", str(file)]):
        out = tmp_path / f"{len(outputs)}.png"
        words = ["--lora", *loras] if loras else []
        assert main([*command, "--out", str(out), *words]) == 0
        outputs.append(out.read_bytes())
    assert outputs[0] == outputs[1] != outputs[2]
    assert main([*command, "--out", str(out), "--lora", "absent.safetensors:1"]) == 2
    assert "there is no LoRA file absent.safetensors" in capsys.readouterr().err


WAN = DiTConfig(
    in_channels=4, out_channels=4, width=24, depth=2, heads=2, ffn_width=40, text_width=16, freq_width=12
)


@pytest.fixture
def wan(tmp_path):
    """(a tiny WanTransformer3DModel, our parameters of it, a function that compares both)."""
    torch = pytest.importorskip("torch")
    from diffusers import WanTransformer3DModel

    from sora_jax.weights.diffusers_dit import to_diffusers_dit

    rng = np.random.default_rng(0)
    inputs = (
        np.zeros((1, 1, 2, 2, 4), np.float32),
        np.zeros(1, np.float32),
        np.zeros((1, 1, 16), np.float32),
    )
    shapes = nn.unbox(jax.eval_shape(DiT(WAN).init, jax.random.key(0), *inputs)["params"])
    params = jax.tree.map(lambda leaf: rng.normal(0, 0.2, leaf.shape).astype(np.float32), shapes)
    model = WanTransformer3DModel(
        num_attention_heads=2,
        attention_head_dim=12,
        in_channels=4,
        out_channels=4,
        text_dim=16,
        freq_dim=12,
        ffn_dim=40,
        num_layers=2,
    )
    state = {name: torch.tensor(array) for name, array in to_diffusers_dit(params, WAN).items()}
    model.load_state_dict(state)
    x = rng.standard_normal((1, 4, 2, 4, 6), np.float32)
    text = rng.standard_normal((1, 7, 16), np.float32)

    def difference(adapted):
        with torch.no_grad():
            theirs = model(torch.tensor(x), torch.tensor([500.0]), torch.tensor(text))[0].numpy()
        latents = x.transpose(0, 2, 3, 4, 1)
        options = {"config": WAN, "dtype": np.dtype("float32"), "masked": False}
        ours = denoise(adapted, latents, np.float32([500.0]), text, **options)
        ours = np.asarray(ours).transpose(0, 4, 1, 2, 3)
        return float(np.linalg.norm(ours - theirs) / np.linalg.norm(theirs))

    return model, params, difference


@pytest.mark.parity
@pytest.mark.parametrize(
    "targets", [["to_q", "to_k", "to_v", "to_out.0"], ["attn1.to_q", "ffn.net.2", "proj_out"]]
)
def test_an_adapter_of_peft_gives_the_same_here(wan, tmp_path, targets):
    import torch
    from peft import LoraConfig, get_peft_model

    model, params, difference = wan
    config = LoraConfig(
        r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False, alpha_pattern={"attn1.to_q": 2.0}
    )
    torch.manual_seed(0)
    model.add_adapter(config, "mine")
    model.save_lora_adapter(tmp_path / "diffusers", adapter_name="mine")
    adapted = load_loras(params, [tmp_path / "diffusers"])
    assert difference(params) > 1e-2
    assert difference(adapted) < 1e-5
    model.set_adapters("mine", 0.4)
    assert difference(load_loras(params, [(tmp_path / "diffusers", 0.4)])) < 1e-5
    model.delete_adapters("mine")

    biased = LoraConfig(r=3, lora_alpha=7, target_modules=targets, init_lora_weights=False, lora_bias=True)
    model.add_adapter(biased, "biased")
    for name, parameter in model.named_parameters():
        if "lora_B" in name and name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    model.save_lora_adapter(tmp_path / "biased", adapter_name="biased")
    assert difference(load_loras(params, [tmp_path / "biased"])) < 1e-5
    model.delete_adapters("biased")

    peft = get_peft_model(model, config)
    peft.save_pretrained(tmp_path / "peft")
    assert difference(load_loras(params, [tmp_path / "peft"])) < 1e-5


@pytest.mark.parity
@pytest.mark.parametrize("targets", [LoRAConfig().targets, "head/kernel|blocks/ffn_in/kernel|time/.*kernel"])
def test_an_adapter_of_ours_gives_the_same_in_diffusers(wan, tmp_path, targets):
    from diffusers import WanPipeline

    model, params, difference = wan
    config = LoRAConfig(rank=3, alpha=5.0, targets=targets)
    rng = np.random.default_rng(2)
    lora = init_lora(params, config, jax.random.key(0))
    lora = jax.tree.map(lambda a: rng.standard_normal(a.shape, np.float32) * 0.3, lora)
    path = save_lora(tmp_path / files.FILE_NAMES[0], lora, config.scale)
    adapted = apply_lora(params, lora, config.scale)

    model.load_lora_adapter(tmp_path, weight_name=path.name, adapter_name="first")
    assert difference(params) > 1e-2
    assert difference(adapted) < 1e-5
    model.delete_adapters("first")

    parts = dict.fromkeys(("tokenizer", "text_encoder", "vae", "scheduler", "transformer_2"))
    pipeline = WanPipeline(transformer=model, **parts)
    pipeline.load_lora_weights(path.parent, weight_name=path.name, adapter_name="second")
    pipeline.set_adapters("second", 0.5)
    assert difference(apply_lora(params, lora, 0.5 * config.scale)) < 1e-5


@pytest.mark.parity
def test_the_original_s_names_are_read_as_diffusers_reads_them(wan, tmp_path):
    """diffusers' own conversion of both layouts, on every layer of every block."""
    from diffusers import WanPipeline

    model, params, difference = wan
    rng = np.random.default_rng(3)
    for kohya in (False, True):
        tensors = {}
        for block in range(2):
            for layer in (
                *(f"{kind}_attn.{part}" for kind in ("self", "cross") for part in "qkvo"),
                "ffn.0",
                "ffn.2",
            ):
                name = f"blocks.{block}.{layer}"
                d_in, d_out = {"ffn.0": (24, 40), "ffn.2": (40, 24)}.get(layer, (24, 24))
                name = f"lora_unet_{name.replace('.', '_')}" if kohya else f"diffusion_model.{name}"
                tensors[f"{name}.lora_down.weight"] = rng.standard_normal((2, d_in), np.float32) * 0.3
                tensors[f"{name}.lora_up.weight"] = rng.standard_normal((d_out, 2), np.float32) * 0.3
                tensors[f"{name}.alpha"] = np.array(rng.uniform(1, 4), np.float32)
                if not kohya:
                    tensors[f"{name}.diff_b"] = rng.standard_normal(d_out, np.float32) * 0.3
        save_file(tensors, tmp_path / f"{kohya}.safetensors")
        parts = dict.fromkeys(("tokenizer", "text_encoder", "vae", "scheduler", "transformer_2"))
        pipeline = WanPipeline(transformer=model, **parts)
        name = f"layout_{kohya}"
        pipeline.load_lora_weights(tmp_path, weight_name=f"{kohya}.safetensors", adapter_name=name)
        pipeline.set_adapters(name)
        assert difference(params) > 1e-2
        assert difference(load_loras(params, [tmp_path / f"{kohya}.safetensors"])) < 1e-5
