"""Optimisers over stacked parameters: those of one name and shape as one array.

A network has many small parameters, and Muon computes dozens of small matrix products for each. Stacked, the
same arithmetic takes a few large operations.
"""

from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import optax

Stacks = dict[str, jax.Array]
"""Name and shape -> the parameters with both, (n, *shape)."""


def over_stacks(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """Apply `transform`, which must treat each number or matrix independently, to the stacked parameters."""

    def update(gradient, state, params):
        updates, state = transform.update(stack(gradient), state, stack(params))
        return unstack(updates, gradient), state

    return optax.GradientTransformation(lambda params: transform.init(stack(params)), update)


def stack(tree: Any) -> Stacks:
    """Stack the leaves of nested dictionaries.

    >>> tree = {name: {"bias": jnp.zeros(2), "kernel": jnp.zeros((3, 2))} for name in "ab"}
    >>> {key: stack.shape for key, stack in stack(tree).items()}
    {'bias_2': (2, 2), 'kernel_3x2': (2, 3, 2)}
    """
    stacks: dict[str, list[jax.Array]] = defaultdict(list)
    for path, leaf in jax.tree.leaves_with_path(tree):
        stacks[_key(path, leaf)].append(leaf)
    return {key: jnp.stack(leaves) for key, leaves in stacks.items()}


def unstack(stacks: Stacks, like: Any) -> Any:
    """Undo `stack`: the tree, with the structure of `like`."""
    leaves = {key: iter(jnp.unstack(stack)) for key, stack in stacks.items()}
    return jax.tree.map_with_path(lambda path, leaf: next(leaves[_key(path, leaf)]), like)


def _key(path: tuple[Any, ...], leaf: jax.Array) -> str:
    return f"{path[-1].key}_{'x'.join(map(str, leaf.shape))}"
