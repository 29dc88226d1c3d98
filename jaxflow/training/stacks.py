"""Optimisers over stacks: the parameters of one name and shape as one array.

A network has many small parameters, Muon dozens of small matrix products for each of them. Stacked, the same
arithmetic is a few large operations.
"""

from collections import defaultdict
from typing import Any

import jax
import jax.numpy as jnp
import optax

Stacks = dict[str, jax.Array]
"""Name and shape -> the parameters that have them, (n, *shape)."""


def over_stacks(transform: optax.GradientTransformation) -> optax.GradientTransformation:
    """`transform`, of which each number or matrix is moved by itself, applied to the stacked parameters."""

    def update(gradient, state, params):
        updates, state = transform.update(stack(gradient), state, stack(params))
        return unstack(updates, gradient), state

    return optax.GradientTransformation(lambda params: transform.init(stack(params)), update)


def stack(tree: Any) -> Stacks:
    """The leaves of nested dictionaries.

    >>> tree = {name: {"bias": jnp.zeros(2), "kernel": jnp.zeros((3, 2))} for name in "ab"}
    >>> {key: stack.shape for key, stack in stack(tree).items()}
    {'bias_2': (2, 2), 'kernel_3x2': (2, 3, 2)}
    """
    stacks: dict[str, list[jax.Array]] = defaultdict(list)
    for path, leaf in jax.tree.leaves_with_path(tree):
        stacks[_key(path, leaf)].append(leaf)
    return {key: jnp.stack(leaves) for key, leaves in stacks.items()}


def unstack(stacks: Stacks, like: Any) -> Any:
    """The tree of the structure of `like` whose leaves were stacked."""
    leaves = {key: iter(jnp.unstack(stack)) for key, stack in stacks.items()}
    return jax.tree.map_with_path(lambda path, leaf: next(leaves[_key(path, leaf)]), like)


def _key(path: tuple[Any, ...], leaf: jax.Array) -> str:
    return f"{path[-1].key}_{'x'.join(map(str, leaf.shape))}"
