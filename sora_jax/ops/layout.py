"""Where arrays lie, for programs of many devices: networks say when it matters, and know no mesh."""

import contextlib
import contextvars
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sora_jax.typing import Array, Float, typed


@dataclasses.dataclass(frozen=True)
class Layout:
    """Where the frames of a clip lie, and a kernel that is about to be used; see `lay_out` and `gather`."""

    clip: Callable[[Array], Array]
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
    """Whether frames of one clip may lie on different devices."""
    return _layout.get() is not None


@typed
def lay_out(x: Float[Array, "b t h w c"]) -> Float[Array, "b t h w c"]:
    """The same numbers, on the devices that `laid_out_by` says."""
    layout = _layout.get()
    return x if layout is None else layout.clip(x)


@typed
def gather(kernel: Float[Array | np.ndarray, "*i o"], axes: tuple[str | None, ...]) -> Any:
    """A kernel or a bias with these logical axes, on every device that needs it, as `laid_out_by` says."""
    layout = _layout.get()
    return kernel if layout is None else layout.kernel(kernel, axes)
