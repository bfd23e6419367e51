"""Where the frames of a clip lie, for programs of many devices: networks say when, and know no mesh."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

from sora_jax.typing import Array, Float, typed

Layout = Callable[[Array], Array]
_layout: contextvars.ContextVar[Layout | None] = contextvars.ContextVar("layout", default=None)


@contextlib.contextmanager
def laid_out_by(layout: Layout | None) -> Iterator[None]:
    """Within it, `lay_out` is `layout`; none leaves all as it is."""
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
    return x if layout is None else layout(x)
