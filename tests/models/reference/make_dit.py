"""Writes dit_outputs.npz: what diffusers' WanTransformer3DModel says on the cases of dit_cases.py.

Needs the [parity] extra. From the root of the repository: `cd tests/models && python -m reference.make_dit`.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import WanTransformer3DModel
from reference.dit_cases import CASES, case

from sora_jax.models.dit import DiTConfig

OUTPUTS = Path(__file__).with_name("dit_outputs.npz")
# Every stage of these is stored; of the others the velocity alone, to keep the file small.
ALL_STAGES = ("image", "odd_frames")


def torch_model(config: DiTConfig) -> WanTransformer3DModel:
    return WanTransformer3DModel(
        patch_size=config.patch,
        num_attention_heads=config.heads,
        attention_head_dim=config.head_width,
        in_channels=config.in_channels,
        out_channels=config.out_channels,
        text_dim=config.text_width,
        freq_dim=config.freq_width,
        ffn_dim=config.ffn_width,
        num_layers=config.depth,
        eps=config.eps,
        image_dim=config.image_width,
        added_kv_proj_dim=None if config.image_width is None else config.width,
        pos_embed_seq_len=config.image_positions,
    ).eval()


def loaded(name: str):
    """(the reference network with the case's weights, its inputs as Torch wants them)."""
    config, state, inputs = case(name)
    model = torch_model(config)
    model.load_state_dict({key: torch.tensor(value) for key, value in state.items()}, strict=True)
    x, t, text, *image = (torch.tensor(np.asarray(a)) for a in inputs)
    if config.image_positions is not None:
        # There the two images of a clip are two rows.
        image = [one.reshape(-1, one.shape[1] // 2, one.shape[2]) for one in image]
    return model, (x.permute(0, 4, 1, 2, 3), t, text, *image)


def stages(name: str) -> dict[str, np.ndarray]:
    """Outputs of the main stages, as numpy arrays in our order of axes."""
    model, inputs = loaded(name)
    found = {}

    def keep(label):
        def hook(module, args, out):
            found[label] = out

        return hook

    hooked = {
        "rope": model.rope,
        "conditions": model.condition_embedder,
        "tokens": model.patch_embedding,
        "attention": model.blocks[0].attn1,
        "cross_attention": model.blocks[0].attn2,
        "block": model.blocks[0],
        "blocks": model.blocks[-1],
    }
    for label, module in hooked.items():
        module.register_forward_hook(keep(label))
    with torch.no_grad():
        found["velocity"] = model(*inputs).sample.permute(0, 2, 3, 4, 1)
    cos, sin = found.pop("rope")
    found["cos"], found["sin"] = cos[0, :, 0, 0::2], sin[0, :, 0, 1::2]
    found["time"], found["time_modulation"], found["text"], image = found.pop("conditions")
    found |= {} if image is None else {"image": image}
    found["tokens"] = found["tokens"].flatten(2).transpose(1, 2)
    return {label: value.numpy() for label, value in found.items()}


if __name__ == "__main__":
    arrays = {
        f"{name}/{label}": value
        for name in CASES
        for label, value in stages(name).items()
        if name in ALL_STAGES or label == "velocity"
    }
    np.savez_compressed(OUTPUTS, **arrays)
    print(f"{OUTPUTS}: {len(arrays)} arrays, {OUTPUTS.stat().st_size / 1024:.0f} kB")
