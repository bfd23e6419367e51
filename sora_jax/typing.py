"""Shapes and dtypes in signatures, checked when the function is called.

One vocabulary: `b t h w c` for clips and latents, `b n d` for tokens, `k` heads, `e` head width, `s` text length.
"""

from beartype import beartype
from jaxtyping import Array, Bool, Float, Int, PRNGKeyArray, PyTree, UInt8, jaxtyped

__all__ = ["Array", "Bool", "Float", "Int", "PRNGKeyArray", "PyTree", "UInt8", "typed"]

typed = jaxtyped(typechecker=beartype)
