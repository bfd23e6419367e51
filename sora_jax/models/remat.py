"""The names of what a backward pass computes again; `models.dit.REMAT` has their policies. It needs no JAX, so that
command lines can offer them before JAX starts."""

from typing import Literal, get_args

__all__ = ["NAMES", "Remat"]

Remat = Literal["none", "minimal", "dots", "offload", "attention", "full"]
NAMES: tuple[str, ...] = get_args(Remat)
