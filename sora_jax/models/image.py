"""The image encoder of Wan's image-to-video networks: CLIP's vision transformer (arXiv 2103.00020, 2010.11929).

    x ← x + W_o softmax(q kᵀ / √e) v,  q, k, v of LayerNorm(x);    x ← x + MLP(LayerNorm(x)), exact GELU between

The denoiser sees the tokens that go into the last block, not those that come out of it.
"""

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from PIL import Image

from sora_jax.nn.linear import Linear
from sora_jax.nn.norm import LayerNorm
from sora_jax.ops.attention import attention
from sora_jax.typing import Array, Float, UInt8, typed

# Of the pixels in [0, 1] that CLIP was trained on (arXiv 2103.00020's released processor).
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


@dataclass(frozen=True, kw_only=True)
class ImageConfig:
    """The encoder's sizes. `size` is the side in pixels of the square that it sees, `patch` that of a token."""

    width: int
    depth: int
    heads: int
    ffn_width: int
    patch: int
    size: int
    eps: float = 1e-5

    def __post_init__(self):
        for field in ("width", "depth", "heads", "ffn_width", "patch", "size"):
            if getattr(self, field) < 1:
                raise ValueError(f"image {field} is {getattr(self, field)} and must be at least 1.")
        for whole, part in (("width", "heads"), ("size", "patch")):
            if getattr(self, whole) % getattr(self, part):
                raise ValueError(
                    f"image {whole} is {getattr(self, whole)} and must be a multiple of its {part}, "
                    f"{getattr(self, part)}."
                )

    @property
    def tokens(self) -> int:
        """How many there are of an image: one a patch and one of the whole."""
        return 1 + (self.size // self.patch) ** 2


# The vision half of laion/CLIP-ViT-H-14, beside the weights of Wan-AI/Wan2.1-I2V-14B-480P-Diffusers.
IMAGE_VIT_H = ImageConfig(width=1280, depth=32, heads=16, ffn_width=5120, patch=14, size=224)


class ImageBlock(nn.Module):
    """One layer; gives its output and, for the penultimate tokens, its input."""

    config: ImageConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, x, _):
        c, start = self.config, x

        def project(y, name):
            y = Linear(c.width, ("embed", "heads"), dtype=self.dtype, name=name)(y)
            return y.reshape(*x.shape[:2], c.heads, c.width // c.heads)

        y = LayerNorm(c.eps, affine=True, name="attention_norm")(x)
        y = attention(project(y, "query"), project(y, "key"), project(y, "value")).reshape(x.shape)
        x = x + Linear(c.width, ("heads", "embed"), dtype=self.dtype, name="out")(y)
        y = LayerNorm(c.eps, affine=True, name="ffn_norm")(x)
        y = jax.nn.gelu(
            Linear(c.ffn_width, ("embed", "mlp"), dtype=self.dtype, name="ffn_in")(y), approximate=False
        )
        return x + Linear(c.width, ("mlp", "embed"), dtype=self.dtype, name="ffn_out")(y), start


class ImageEncoder(nn.Module):
    """Pixels that `prepare` gives -> (penultimate tokens [b, m, d], the last block's whole-image token [b, d])."""

    config: ImageConfig
    dtype: jnp.dtype = jnp.float32

    @nn.compact
    @typed
    def __call__(
        self, pixels: Float[Array | np.ndarray, "b side side2 3"]
    ) -> tuple[Float[Array, "b m d"], Float[Array, "b d"]]:
        c = self.config
        b, side = pixels.shape[0], c.size // c.patch
        x = jnp.asarray(pixels).reshape(b, side, c.patch, side, c.patch, 3)
        x = x.transpose(0, 1, 3, 2, 4, 5).reshape(b, side * side, 3 * c.patch**2)
        x = Linear(c.width, ("patch", "embed"), False, self.dtype, name="patch_embedding")(x)

        def table(name, shape, axes):
            init = nn.with_logical_partitioning(nn.initializers.normal(0.02), axes)
            value: Any = self.param(name, init, shape, jnp.float32)
            return value.astype(self.dtype)

        whole = table("whole", (c.width,), ("embed",))
        x = jnp.concatenate([jnp.broadcast_to(whole[None, None], (b, 1, c.width)), x], axis=1)
        x = x + table("positions", (c.tokens, c.width), (None, "embed"))[None]
        x = LayerNorm(c.eps, affine=True, name="norm_in")(x)
        blocks = nn.scan(
            ImageBlock,
            variable_axes={"params": 0},
            split_rngs={"params": True},
            length=c.depth,
            metadata_params={nn.PARTITION_NAME: "layers"},
        )
        x, starts = blocks(c, self.dtype, name="blocks")(x, None)
        return starts[-1], LayerNorm(c.eps, affine=True, name="norm_out")(x[:, 0])


@typed
def prepare(image: UInt8[np.ndarray, "h w 3"], config: ImageConfig) -> Float[np.ndarray, "side side2 3"]:
    """An image as the encoder takes it: the shorter side scaled to `size` (bicubic), the middle square, normalised."""
    height, width, _ = image.shape
    scale = config.size / min(height, width)
    sides = [config.size if side == min(height, width) else int(side * scale) for side in (width, height)]
    scaled = np.asarray(Image.fromarray(image).resize(sides, Image.Resampling.BICUBIC))
    top, left = (scaled.shape[0] - config.size) // 2, (scaled.shape[1] - config.size) // 2
    square = scaled[top : top + config.size, left : left + config.size].astype(np.float32)
    return (square / 255 - np.asarray(MEAN, np.float32)) / np.asarray(STD, np.float32)
