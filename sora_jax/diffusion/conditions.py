"""What the model is told, as data: cond(step) = values[index[step]].

A condition is any pytree of arrays (text, masks, a guidance scale). A leaf wrapped in `PerStep` changes along
the run: a prompt that takes over half way, a guidance schedule. One compiled program serves all their values.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from sora_jax.typing import Array, Bool, Int, PyTree


@functools.partial(jax.tree_util.register_dataclass, data_fields=["values", "index"], meta_fields=[])
@dataclasses.dataclass(frozen=True)
class PerStep:
    """Step i sees `values[index[i]]` of `values` [k, ...]; without an `index` [steps], `values[i]`.

    Past the end, the last entry holds.
    """

    values: Array
    index: Int[Array, "steps"] | None = None

    def at(self, step: Int[Array, ""]) -> Array:
        """What step `step` sees, without the leading axis."""
        values = jnp.asarray(self.values)
        if self.index is not None:
            index = jnp.asarray(self.index)
            step = index[jnp.minimum(step, len(index) - 1)]
        return values[jnp.minimum(step, len(values) - 1)]


def _changes(node):
    return isinstance(node, PerStep)


def at_step(cond: PyTree, step: Int[Array, ""]) -> PyTree:
    """`cond` as step `step` sees it: every `PerStep` in the tree becomes its array of that step."""
    return jax.tree.map(lambda node: node.at(step) if _changes(node) else node, cond, is_leaf=_changes)


def changed_at(cond: PyTree, step: Int[Array, ""]) -> Bool[Array, ""]:
    """Whether step `step` sees another `cond` than the step before it."""
    varying = [leaf for leaf in jax.tree.leaves(cond, is_leaf=_changes) if _changes(leaf)]
    before = jnp.maximum(step - 1, 0)
    changes = [jnp.any(leaf.at(step) != leaf.at(before)) for leaf in varying]
    return functools.reduce(jnp.logical_or, changes, jnp.zeros((), bool))
