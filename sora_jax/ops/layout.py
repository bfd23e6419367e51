"""Where arrays lie, for programs of many devices: networks say when it matters, and know no mesh."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sora_jax.typing import Array, Float, typed

Convolution = Callable[[Array, Array, tuple[int, int]], Array]
"""Of every frame of x [b, t, h, w, c] with a kernel, zeros being put above and below as the two numbers say."""


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where frames and rows of a clip lie, how such frames are convolved, and where a kernel lies that is about to be
    used. See the functions below."""

    clip: Callable[[Array], Array]
    convolve: Callable[[Convolution, Array, Array, tuple[int, int], int], Array]
    kernel: Callable[[Any, tuple[str | None, ...]], Array]


_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def laid_out_by(layout: Layout | None) -> Iterator[None]:
    """Within it, `lay_out` and `gather` are those of `layout`; none leaves all as it is."""
    token = _layout.set(layout)
    try:
        yield
    finally:
        _layout.reset(token)


def is_cut() -> bool:
    """Whether frames and rows of one clip may lie on different devices."""
    return _layout.get() is not None


@typed
def lay_out(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
    """The same numbers, on the devices that `laid_out_by` says."""
    layout = _layout.get()
    return x if layout is None else layout.clip(x)


def convolve_frames(
    convolve: Convolution, x: Array, kernel: Array, rows: tuple[int, int], stride: int
) -> Array:
    """convolve(x, kernel, rows), where `laid_out_by` says that parts of x [b, t, h, w, c] lie.

    Args:
        rows: how many rows of zeros are above and below each frame.
        stride: how many rows of x become one.
    """
    layout = _layout.get()
    if layout is None:
        return convolve(x, kernel, rows)
    return layout.convolve(convolve, x, kernel, rows, stride)


@typed
def gather(kernel: Float[Array | np.ndarray, "*i o"], axes: tuple[str | None, ...]) -> Any:
    """A kernel or a bias with these logical axes, on every device that needs it, as `laid_out_by` says."""
    layout = _layout.get()
    return kernel if layout is None else layout.kernel(kernel, axes)
