"""Writes vae_outputs.npz: what diffusers' AutoencoderKLWan says on the cases of vae_cases.py.

Needs the [parity] extra. From the root of the repository: `cd tests/models && python -m reference.make_vae`.
"""

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKLWan
from diffusers.models.autoencoders.autoencoder_kl_wan import unpatchify
from reference.vae_cases import CONFIGS, STAGES, clip, latents, state

from sora_jax.models.vae import VAEConfig
from sora_jax.weights.diffusers_vae import diffusers_name

OUTPUTS = Path(__file__).with_name("vae_outputs.npz")


def torch_model(config: VAEConfig) -> AutoencoderKLWan:
    channels = 3 * config.patch_size**2
    return AutoencoderKLWan(
        base_dim=config.base_width,
        decoder_base_dim=config.decoder_width,
        z_dim=config.latent_channels,
        dim_mult=list(config.multipliers),
        num_res_blocks=config.res_blocks,
        temperal_downsample=list(config.temporal_downsample),
        is_residual=config.residual_shortcuts,
        in_channels=channels,
        out_channels=channels,
        patch_size=config.patch_size if config.patch_size > 1 else None,
    ).eval()


def channels_last(x: torch.Tensor) -> np.ndarray:
    return x.permute(0, 2, 3, 4, 1).numpy()


def reference_outputs(name: str, size: str) -> dict[str, np.ndarray]:
    """mean, logvar, the decoder's clip and the outputs of the main stages, [b,t,h,w,c]."""
    model = torch_model(CONFIGS[name])
    model.load_state_dict({key: torch.tensor(value) for key, value in state(name).items()}, strict=True)
    chunks = {stage: [] for stage in STAGES[name]}
    modules = dict(model.named_modules())
    for stage in STAGES[name]:
        module = modules[diffusers_name(stage, CONFIGS[name])]
        module.register_forward_hook(lambda module, args, out, stage=stage: chunks[stage].append(out))
    # The reference clamps to [-1, 1], which would hide errors in a random network: its last layer is taken instead.
    pixels = []
    model.decoder.register_forward_hook(lambda module, args, out: pixels.append(out))
    with torch.no_grad():
        posterior = model.encode(torch.tensor(clip(name, size)).permute(0, 4, 1, 2, 3)).latent_dist
        model.decode(torch.tensor(latents(name, size)).permute(0, 4, 1, 2, 3))
    found = {
        "mean": posterior.mean,
        "logvar": posterior.logvar,
        "pixels": unpatchify(torch.cat(pixels, 2), CONFIGS[name].patch_size),
    }
    found |= {stage: torch.cat(parts, 2) for stage, parts in chunks.items()}
    return {label: channels_last(value) for label, value in found.items()}


if __name__ == "__main__":
    arrays = {
        f"{name}:{label}": value
        for name in CONFIGS
        for label, value in reference_outputs(name, "clip").items()
    }
    np.savez_compressed(OUTPUTS, **arrays)
    print(f"{OUTPUTS}: {len(arrays)} arrays, {OUTPUTS.stat().st_size / 1024:.0f} kB")
