"""A clip as a grid of spacetime patches: [b, t, h, w, c] <-> [b, t/p_t, h/p_h, w/p_w, p_t·p_h·p_w·c].

A linear layer on patches is the strided convolution of ViT (arXiv 2010.11929), over time too.
"""

from sora_jax.typing import Array, Float, typed

Patch = tuple[int, int, int]


@typed
def patchify(x: Float[Array, "b t h w c"], patch: Patch) -> Float[Array, "b pt ph pw d"]:
    """Cuts a clip into patches of `patch` = (frames, rows, columns); inside a patch the channel runs fastest.

    Raises:
        ValueError: a side is not a multiple of its patch.
    """
    b, t, h, w, c = x.shape
    for name, size, p in zip(("frames", "rows", "columns"), (t, h, w), patch, strict=True):
        if size % p:
            lower, upper = size - size % p, size + p - size % p
            raise ValueError(
                f"{size} latent {name} is not a multiple of the patch {p}: use {lower or upper} or {upper}."
            )
    pt, ph, pw = patch
    x = x.reshape(b, t // pt, pt, h // ph, ph, w // pw, pw, c)
    return x.transpose(0, 1, 3, 5, 2, 4, 6, 7).reshape(b, t // pt, h // ph, w // pw, pt * ph * pw * c)


@typed
def unpatchify(x: Float[Array, "b pt ph pw d"], patch: Patch) -> Float[Array, "b t h w c"]:
    """The inverse of `patchify`."""
    b, t, h, w, d = x.shape
    pt, ph, pw = patch
    if d % (pt * ph * pw):
        raise ValueError(f"{d} values a patch don't divide among {pt}x{ph}x{pw} positions: use a multiple.")
    x = x.reshape(b, t, h, w, pt, ph, pw, d // (pt * ph * pw))
    return x.transpose(0, 1, 4, 2, 5, 3, 6, 7).reshape(b, t * pt, h * ph, w * pw, d // (pt * ph * pw))
