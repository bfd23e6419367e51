"""Space and time folded into channels and back: pixel (un)shuffle and the shortcuts without parameters.

With a patch of p x p pixels, y[h, w, (c·p + j)·p + i] = x[h·p + i, w·p + j, c]: the column offset j is slower
than the row offset i, which is the order of Wan 2.2's published VAE. The shortcuts follow the deep-compression
autoencoder (arXiv 2410.10733): downsampling folds a block into channels and averages groups of them,
upsampling repeats channels and unfolds them.
"""

import jax.numpy as jnp

from sora_jax.typing import Array, Float, typed


@typed
def pixel_unshuffle(x: Float[Array, "*b h w c"], patch: int) -> Float[Array, "*b h2 w2 d"]:
    """Each `patch` x `patch` block of pixels becomes one pixel with patch² times the channels."""
    if patch == 1:
        return x
    *lead, h, w, c = x.shape
    x = x.reshape(*lead, h // patch, patch, w // patch, patch, c)
    n = len(lead)
    x = x.transpose(*range(n), n, n + 2, n + 4, n + 3, n + 1)
    return x.reshape(*lead, h // patch, w // patch, c * patch * patch)


@typed
def pixel_shuffle(x: Float[Array, "*b h w d"], patch: int) -> Float[Array, "*b h2 w2 c"]:
    """The inverse of `pixel_unshuffle`."""
    if patch == 1:
        return x
    *lead, h, w, d = x.shape
    c = d // (patch * patch)
    x = x.reshape(*lead, h, w, c, patch, patch)
    n = len(lead)
    x = x.transpose(*range(n), n, n + 4, n + 1, n + 3, n + 2)
    return x.reshape(*lead, h * patch, w * patch, c)


@typed
def average_down(
    x: Float[Array, "b t h w c"], channels: int, factor_t: int, factor_s: int
) -> Float[Array, "b t2 h2 w2 d"]:
    """Folds blocks of factor_t frames and factor_s² pixels into channels, then averages them to `channels`.

    Frames short of a whole block are zeros *before* the first frame, which so keeps a block of its own.
    Where folding gives fewer channels than asked for, each is repeated.
    """
    b, t, h, w, c = x.shape
    x = jnp.pad(x, ((0, 0), (-t % factor_t, 0), (0, 0), (0, 0), (0, 0)))
    t = x.shape[1] // factor_t
    x = x.reshape(b, t, factor_t, h // factor_s, factor_s, w // factor_s, factor_s, c)
    x = x.transpose(0, 1, 3, 5, 7, 2, 4, 6).reshape(b, t, h // factor_s, w // factor_s, -1)
    if x.shape[-1] < channels:
        return jnp.repeat(x, channels // x.shape[-1], axis=-1)
    return x.reshape(*x.shape[:-1], channels, -1).mean(-1)


@typed
def duplicate_up(
    x: Float[Array, "b t h w c"], channels: int, factor_t: int, factor_s: int, first: bool
) -> Float[Array, "b t2 h2 w2 d"]:
    """Repeats channels, then unfolds them into factor_t frames and factor_s x factor_s pixels.

    `first` says that x starts with the clip's first frame, which stands for one frame and not for factor_t.
    """
    b, t, h, w, c = x.shape
    x = jnp.repeat(x, channels * factor_t * factor_s * factor_s // c, axis=-1)
    x = x.reshape(b, t, h, w, channels, factor_t, factor_s, factor_s)
    x = x.transpose(0, 1, 5, 2, 6, 3, 7, 4).reshape(b, t * factor_t, h * factor_s, w * factor_s, channels)
    return x[:, factor_t - 1 :] if first else x
