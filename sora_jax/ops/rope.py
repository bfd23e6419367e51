"""Rotary positions (arXiv 2104.09864) over time, rows, columns:  (x₂ᵢ, x₂ᵢ₊₁) ← R(p·θ^(-2i/d)) (x₂ᵢ, x₂ᵢ₊₁).

Each axis rotates its own share of a head's entries, so q·k depends on the differences of positions alone.
"""

import jax.numpy as jnp
import numpy as np

from sora_jax.typing import Array, Float, typed

Rotation = tuple[Array, Array]


def axis_widths(width: int) -> tuple[int, int, int]:
    """How many of a head's `width` entries turn with time, rows, columns (the last two get 2·⌊w/6⌋)."""
    space = 2 * (width // 6)
    return width - 2 * space, space, space


def frequencies(width: int, theta: float = 10_000.0) -> np.ndarray:
    """θ^(-2i/width) for i < width/2, in float64."""
    return theta ** -(np.arange(0, width, 2, dtype=np.float64) / width)


@typed
def rope_3d(
    grid: tuple[int, int, int],
    width: int,
    positions: Float[Array, "t"] | None = None,
    theta: float = 10_000.0,
) -> tuple[Float[Array, "n half"], Float[Array, "n half"]]:
    """Cosines and sines [t·h·w, width/2] for the tokens of a grid, in order of time, then row, then column.

    Args:
        grid: tokens along time, rows and columns.
        width: entries of a head; even.
        positions: place in time of each token frame, in token frames, fractions allowed; default 0, 1, 2...
        theta: longest wavelength over 2π; 10,000 as published.
    """
    if width % 2:
        raise ValueError(f"a head of {width} entries has an unpaired one: make the head width even.")
    tables = []
    for axis, (length, share) in enumerate(zip(grid, axis_widths(width), strict=True)):
        if axis == 0 and positions is not None:
            angle = (
                positions.astype(jnp.float32)[:, None] * frequencies(share, theta).astype(np.float32)[None, :]
            )
            cos, sin = jnp.cos(angle), jnp.sin(angle)
        else:
            angle = np.arange(length, dtype=np.float64)[:, None] * frequencies(share, theta)[None, :]
            cos, sin = jnp.asarray(np.cos(angle), jnp.float32), jnp.asarray(np.sin(angle), jnp.float32)
        shape = [1, 1, 1, share // 2]
        shape[axis] = length
        tables.append([jnp.broadcast_to(a.reshape(shape), (*grid, share // 2)) for a in (cos, sin)])
    n = grid[0] * grid[1] * grid[2]
    cos, sin = (jnp.concatenate(parts, axis=-1).reshape(n, width // 2) for parts in zip(*tables, strict=True))
    return cos, sin


@typed
def apply_rope(x: Float[Array, "b n k e"], rotation: Rotation) -> Float[Array, "b n k e"]:
    """Turns neighbouring pairs of each head's entries by the token's angles. Computed in float32."""
    cos, sin = (a.reshape(1, a.shape[0], 1, a.shape[1]) for a in rotation)
    pairs = x.astype(jnp.float32).reshape(*x.shape[:-1], x.shape[-1] // 2, 2)
    even, odd = pairs[..., 0], pairs[..., 1]
    turned = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return turned.reshape(x.shape).astype(x.dtype)
