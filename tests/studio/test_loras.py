"""LoRAs of a model with two experts."""

import dataclasses

import chex
import jax
import numpy as np
import pytest
import tiny_model

from sora_jax.models.lora import LoRAConfig, apply_lora, init_lora
from sora_jax.studio.pipeline import load
from sora_jax.weights import save
from sora_jax.weights.lora_files import save_lora

CONFIG = LoRAConfig(rank=2, alpha=3.0, targets="blocks/self_attention/.*/kernel")


def test_a_second_expert_has_loras_of_its_own(tmp_path):
    one = tiny_model.checkpoint()
    dit, draw = one.params["dit"], np.random.default_rng(0).standard_normal
    lora = jax.tree.map(lambda a: draw(a.shape, np.float32), dict(init_lora(dit, CONFIG, jax.random.key(0))))
    file = save_lora(tmp_path / "lora.safetensors", lora, CONFIG.scale)
    config = dataclasses.replace(one.config, boundary_ratio=0.5)
    two = dataclasses.replace(one, config=config, params={**one.params, "dit_2": dit})

    found = load(save(tmp_path / "two", two), lora_2=[f"{file}:2"]).params
    wanted = {"dit": dit, "dit_2": apply_lora(dit, lora, 2 * CONFIG.scale)}
    for network, tree in wanted.items():
        chex.assert_trees_all_close(found[network], tree, atol=1e-2)
    with pytest.raises(ValueError, match="no second expert"):
        load(tiny_model.write(tmp_path / "one"), lora_2=[file])
