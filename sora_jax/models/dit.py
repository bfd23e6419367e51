"""The denoiser: v = DiT(x_σ, 1000·σ, text), a transformer on patches (arXiv 2212.09748, 2503.20314).

Each token's noise level steers its own path:  y = LayerNorm(x)·(1 + γ) + β,  x ← x + α·F(y),  where (β, γ, α)
is one shared MLP of the level plus a table of the block (PixArt's adaLN-single, arXiv 2310.00426).
"""

import dataclasses
import functools
from typing import Any, Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from sora_jax.models.remat import NAMES, Remat
from sora_jax.nn.attention import Attention
from sora_jax.nn.conv import Neighbours
from sora_jax.nn.embed import ImageProjection, TextProjection, TimeEmbedding
from sora_jax.nn.linear import LECUN, Linear
from sora_jax.nn.norm import LayerNorm
from sora_jax.ops.attention_splash import SAVED
from sora_jax.ops.layout import is_cut
from sora_jax.ops.patchify import patchify, unpatchify
from sora_jax.ops.rope import Rotation, rope_3d
from sora_jax.typing import Array, Bool, Float, typed

ATTENTION = jax.checkpoint_policies.save_only_these_names(SAVED)
DOTS = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.dots_with_no_batch_dims_saveable, ATTENTION
)
REMAT = {
    "full": None,
    "attention": ATTENTION,
    "dots": DOTS,
    "minimal": DOTS,
    "offload": jax.checkpoint_policies.offload_dot_with_no_batch_dims("device", "pinned_host"),
}
ZEROS = nn.initializers.zeros
GELU = functools.partial(jax.nn.gelu, approximate=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class DiTConfig:
    """Sizes of the denoiser. Defaults are Wan 2.1's where it has one size of them."""

    in_channels: int
    """Channels of the latents that come in."""
    out_channels: int
    """Channels of the velocity that goes out."""
    patch: tuple[int, int, int] = (1, 2, 2)
    """Latent frames, rows and columns in one token."""
    width: int
    depth: int
    """Blocks."""
    heads: int
    ffn_width: int
    text_width: int
    """Width of the text encoder's features."""
    freq_width: int = 256
    """Sinusoids of the noise level."""
    image_width: int | None = None
    """Width of an image encoder's tokens, which every block also attends to; None where it takes none."""
    image_positions: int | None = None
    """Places that the image tokens are told apart by: those of both images, where it takes a first and a last."""
    eps: float = 1e-6
    remat: Remat = "none"
    """What the backward pass recomputes of each block: nothing, all but attention and the weights' matmuls (their
    results stay on the device, under either name), all but the matmuls (they wait in the host's memory), all but
    attention, everything. XLA's own attention is always computed again where anything is."""
    unroll: int = 1
    """Blocks laid out one after another in each turn of the loop over them."""
    neighbours: bool = False
    """Whether the FFN also sees the eight tokens around each in its frame: a 3x3 depthwise convolution before it, as in
    SANA's (arXiv 2410.10629). A short run hasn't time to learn from positions what lies side by side."""
    prediction: Literal["velocity", "preconditioned"] = "velocity"
    """What the head gives: v, or what is left of it after the best linear guess from x_σ (`_precondition`). Noise
    fills every entry of a token and a clean clip few, so a width that is not much above a token's entries has no room
    to carry the noise through: `preconditioned` spares it that."""
    init: Literal["zero", "published"] = "zero"
    """`zero`: gates, cross attention's output and the head start at 0, so that each block starts as the
    identity (adaLN-zero, arXiv 2212.09748). `published`: random tables, N(0, 1/width), and random gates."""

    def __post_init__(self):
        sizes = "in_channels out_channels width depth heads ffn_width text_width unroll"
        for field in sizes.split():
            if getattr(self, field) < 1:
                raise ValueError(f"{field} is {getattr(self, field)}: it must be at least 1.")
        for field in ("image_width", "image_positions"):
            if (value := getattr(self, field)) is not None and value < 1:
                raise ValueError(f"{field} is {value}: it must be at least 1, or None.")
        if self.image_positions is not None and self.image_width is None:
            raise ValueError("image_positions is set and image_width isn't: give both, or only the width.")
        if self.width % self.heads or (self.width // self.heads) % 2 or self.width // self.heads < 6:
            raise ValueError(
                f"width {self.width} in {self.heads} heads: a head must be an even number of entries, at "
                f"least 6; try heads={max(1, self.width // 64)}."
            )
        if len(self.patch) != 3 or min(self.patch) < 1:
            raise ValueError(f"patch {self.patch}: give three positive sizes (frames, rows, columns).")
        if self.freq_width < 2 or self.freq_width % 2:
            raise ValueError(f"freq_width is {self.freq_width}: it must be even and positive.")
        if self.remat not in NAMES:
            raise ValueError(f"remat is {self.remat!r}: choose one of {', '.join(NAMES)}.")
        if self.prediction not in ("velocity", "preconditioned"):
            raise ValueError(f"prediction is {self.prediction!r}: choose velocity or preconditioned.")
        if self.prediction == "preconditioned" and self.in_channels != self.out_channels:
            raise ValueError(
                f"prediction is preconditioned, from {self.in_channels} channels to {self.out_channels}: they must "
                "be as many."
            )
        if self.init not in ("zero", "published"):
            raise ValueError(f"init is {self.init!r}: choose zero or published.")

    @property
    def head_width(self) -> int:
        return self.width // self.heads


# Sizes of the published networks: arXiv 2503.20314, table 2, and the config.json files beside the weights.
DIT_WAN2_1_T2V_1_3B = DiTConfig(
    in_channels=16,
    out_channels=16,
    width=1536,
    depth=30,
    heads=12,
    ffn_width=8960,
    text_width=4096,
    remat="full",
)
DIT_WAN2_1_T2V_14B = dataclasses.replace(DIT_WAN2_1_T2V_1_3B, width=5120, depth=40, heads=40, ffn_width=13824)
# 16 channels of noise, then what is known: 4 of the mask and 16 of the image's latents.
DIT_WAN2_1_I2V_14B = dataclasses.replace(DIT_WAN2_1_T2V_14B, in_channels=36, image_width=1280)
DIT_WAN2_1_FLF2V_14B = dataclasses.replace(DIT_WAN2_1_I2V_14B, image_positions=514)
DIT_WAN2_2_I2V_A14B = dataclasses.replace(DIT_WAN2_1_T2V_14B, in_channels=36)
DIT_WAN2_2_TI2V_5B = dataclasses.replace(
    DIT_WAN2_1_T2V_1_3B, in_channels=48, out_channels=48, width=3072, depth=30, heads=24, ffn_width=14336
)
DIT_PLAYGROUND = DiTConfig(
    in_channels=12,
    out_channels=12,
    patch=(1, 2, 2),
    width=192,
    depth=6,
    heads=6,
    ffn_width=768,
    text_width=128,
    remat="dots",
    neighbours=True,
    prediction="preconditioned",
)


def per_token(level, n: int):
    """What g noise levels say, [b, g, d], told to each of n tokens, [b, n, d]; tokens of one level lie together.

    Where tokens lie on several devices it is a product, whose gradient is a small sum over them: cuts needn't fall
    between levels, and a reshape across a cut would fetch all tokens.
    """
    b, g, d = level.shape
    if g in (1, n):
        return level
    if is_cut():
        told = jnp.arange(n)[:, None] // (n // g) == jnp.arange(g)[None]
        return jnp.einsum("ng,bgd->bnd", told.astype(level.dtype), level, precision="highest")
    return jnp.broadcast_to(level[:, :, None], (b, g, n // g, d)).reshape(b, n, d)


def modulate(x, shift, scale):
    """x·(1 + γ) + β in float32, for x [b, n, d] with γ and β [b, g, d] of g noise levels."""
    n = x.shape[1]
    return x.astype(jnp.float32) * (1.0 + per_token(scale, n)) + per_token(shift, n)


def gated(x, branch, gate):
    """x + α·branch, summed in float32, with α [b, g, d]."""
    branch = branch.astype(jnp.float32) * per_token(gate, x.shape[1])
    return (x.astype(jnp.float32) + branch).astype(x.dtype)


def timesteps(sigma: Array, patch: tuple[int, int, int]) -> Array:
    """Noise levels [b, t, 1, 1] or [b, t, h, w] of latents as the denoiser takes them: 1000·σ, [b, t'] or [b, n].

    A token that holds several latents has the level of the noisiest.
    """
    b, t, h, w = sigma.shape
    pt, ph, pw = patch
    ph, pw = (ph, pw) if h > 1 or w > 1 else (1, 1)
    sigma = sigma.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw).max(axis=(2, 4, 6))
    return 1000.0 * sigma.reshape(b, -1)


class Block(nn.Module):
    """Self attention, cross attention to the text, FFN; x [b, n, d], level [b, g, 6, d], text [b, s, d].

    An `image` [b, m, d] is attended to beside the text.
    """

    config: DiTConfig
    grid: tuple[int, ...]
    """Token frames, rows and columns: their product is n."""
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, level, text, rotation: Rotation, text_mask=None, image=None):
        c, zero = self.config, self.config.init == "zero"
        table: Any = self.param("modulation", _table_init(zero), (6, c.width), jnp.float32)  # pyright: ignore
        steer = table.reshape(1, 1, 6, c.width) + level
        shift1, scale1, gate1, shift2, scale2, gate2 = (steer[:, :, i] for i in range(6))

        def norm(x):
            return LayerNorm(c.eps)(x.astype(jnp.float32))

        y = modulate(norm(x), shift1, scale1).astype(self.dtype)
        y = Attention(c.heads, c.eps, self.dtype, name="self_attention")(y, rotation=rotation)
        x = gated(x, y, gate1)

        y = LayerNorm(c.eps, affine=True, name="cross_norm")(x)
        attend = Attention(c.heads, c.eps, self.dtype, ZEROS if zero else LECUN, name="cross_attention")
        x = x + attend(y, text, mask=text_mask, added=image)

        y = modulate(norm(x), shift2, scale2).astype(self.dtype)
        if c.neighbours:
            y = y + Neighbours(self.grid, self.dtype, name="neighbours")(y)
        y = Linear(c.ffn_width, ("embed", "mlp"), dtype=self.dtype, name="ffn_in")(y)
        # Of the FFN's width only its input is kept for the backward pass; else six arrays are.
        y = jax.checkpoint(GELU, prevent_cse=False)(y)
        y = Linear(c.width, ("mlp", "embed"), dtype=self.dtype, name="ffn_out")(y)
        return gated(x, y, gate2), None


class DiT(nn.Module):
    """Velocity of noised latents. Parameters are float32; matmuls run in `dtype`."""

    config: DiTConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    @typed
    def __call__(
        self,
        x: Float[Array, "b t h w c"],
        timestep: Float[Array, "b"] | Float[Array, "b g"],
        text: Float[Array, "b s d"],
        text_mask: Bool[Array, "b s"] | None = None,
        positions: Float[Array, "pt"] | None = None,
        image: Float[Array, "b m e"] | None = None,
    ) -> Float[Array, "b t h w out"]:
        """Predicts v = ε - x₀.

        Args:
            x: latents x_σ.
            timestep: 1000·σ in [0, 1000]: one a clip, one a token frame [b, t], or one a token [b, n].
            text: features of the prompt.
            text_mask: which of the s tokens there are; default all (as published).
            positions: place in time of each token frame, in token frames; default 0, 1, 2...
            image: tokens of an image encoder, for a network that has an `image_width`.

        Raises:
            ValueError: sides that the patch doesn't divide, channels other than the config's, another count
                of timesteps or positions, or image tokens missing, of another width or not asked for.
        """
        c = self.config
        zero = c.init == "zero"
        out_init = ZEROS if zero else LECUN
        if x.shape[-1] != c.in_channels or text.shape[-1] != c.text_width:
            raise ValueError(
                f"latents of {x.shape[-1]} channels and text of {text.shape[-1]}: this network takes "
                f"{c.in_channels} and {c.text_width}."
            )
        if (None if image is None else image.shape[-1]) != c.image_width:
            raise ValueError(
                f"image tokens are {'missing' if image is None else f'{image.shape[-1]} wide'}: this network takes "
                f"{'none' if c.image_width is None else f'those of width {c.image_width}'}."
            )
        tokens = patchify(x, c.patch)
        b, *grid = tokens.shape[:-1]
        n = grid[0] * grid[1] * grid[2]
        timestep = timestep if timestep.ndim == 2 else timestep[:, None]
        if timestep.shape[1] not in (1, grid[0], n):
            raise ValueError(
                f"{timestep.shape[1]} timesteps for a grid of {grid} tokens: give 1, {grid[0]} (one a frame) "
                f"or {n} (one a token)."
            )
        if positions is not None and positions.shape[0] != grid[0]:
            raise ValueError(f"{positions.shape[0]} positions for {grid[0]} token frames: give one a frame.")

        level = TimeEmbedding(c.width, c.freq_width, name="time")(timestep)
        steer = Linear(6 * c.width, ("embed", "mlp"), kernel_init=out_init, name="time_modulation")
        steer = steer(jax.nn.silu(level)).reshape(b, timestep.shape[1], 6, c.width)
        text = TextProjection(c.width, self.dtype, name="text")(text)
        if image is not None:
            image = ImageProjection(c.width, c.image_positions, self.dtype, name="image")(image)
        rotation = rope_3d((grid[0], grid[1], grid[2]), c.head_width, positions)

        tokens = tokens.reshape(b, n, tokens.shape[-1])
        y = Linear(c.width, ("patch", "embed"), dtype=self.dtype, name="patch_embedding")(tokens)
        block = Block if c.remat == "none" else nn.remat(Block, policy=REMAT[c.remat], prevent_cse=False)
        blocks = nn.scan(
            block,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
            length=c.depth,
            unroll=min(c.unroll, c.depth),
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        y, _ = blocks(c, tuple(grid), self.dtype, name="blocks")(y, steer, text, rotation, text_mask, image)

        table: Any = self.param("modulation", _table_init(zero), (2, c.width), jnp.float32)  # pyright: ignore
        steer = table.reshape(1, 1, 2, c.width) + level[:, :, None]
        y = LayerNorm(c.eps)(y.astype(jnp.float32))
        y = modulate(y, steer[:, :, 0], steer[:, :, 1]).astype(self.dtype)
        size = c.patch[0] * c.patch[1] * c.patch[2] * c.out_channels
        y = Linear(size, ("embed", "patch"), dtype=self.dtype, kernel_init=out_init, name="head")(y)
        out = unpatchify(y.reshape(b, *grid, size), c.patch)
        return out if c.prediction == "velocity" else _precondition(x, out, timestep, grid, c.patch)


def _precondition(x, out, timestep, grid, patch):
    """v = ((2σ - 1) x_σ + √q F) / q, where q = σ² + (1 - σ)².

    Of latents of variance 1 the best linear guess is (2σ - 1) x_σ / q, and F has variance 1 at every level: EDM's
    preconditioning (arXiv 2206.00364) on the straight path.
    """
    sigma = timestep.astype(jnp.float32) / 1000.0
    per_token = sigma.shape[1] == grid[0] * grid[1] * grid[2] and grid[1] * grid[2] > 1
    sigma = sigma.reshape(sigma.shape[0], *(grid if per_token else (sigma.shape[1], 1, 1)), 1)
    for axis, size in enumerate(patch, start=1):
        sigma = sigma if sigma.shape[axis] == 1 else jnp.repeat(sigma, size, axis=axis)
    q = jnp.square(sigma) + jnp.square(1 - sigma)
    v = ((2 * sigma - 1) * x.astype(jnp.float32) + jnp.sqrt(q) * out.astype(jnp.float32)) / q
    return v.astype(out.dtype)


def _table_init(zero: bool):
    def init(key, shape, dtype):
        return jax.random.normal(key, shape, dtype) * shape[-1] ** -0.5

    return nn.with_logical_partitioning(ZEROS if zero else init, ("modulation", "embed"))
