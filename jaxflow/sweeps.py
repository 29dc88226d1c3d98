"""Sweeps: one function at every combination of numbers, in one compiled program.

The function closes over its noise or its keys, so that all combinations share them: differences between
two settings are then those of the settings, and not of the draw.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp


def sweep(function: Callable[..., Any], axes: Mapping[str, Any], *, chunk: int | None = None) -> Any:
    """`function(**{name: value})` at every combination of the axes, stacked.

    Compile the whole of it, with `jax.jit`. Values of an axis may be arrays (n, ...), keys, or any
    pytree of them, such as a path with an array of numbers.

    Args:
        function: keyword arguments, one per axis, to a pytree of arrays.
        axes: for each name a pytree whose leaves have the same leading axis.
        chunk: combinations computed at a time by `jax.vmap`; all if left out. Memory grows with it.
            1 is a loop in the compiled program, in which `jax.lax.cond` saves what it saves outside.

    Returns:
        What the function returns, with one leading axis for each axis of the sweep, in their order. (A
        dictionary that is itself an argument of `jax.jit` arrives there in alphabetical order.)

    Raises:
        ValueError: no axes, an empty axis, or leaves of different lengths in one; chunk is below 1.

    >>> table = sweep(lambda a, b: a + 10 * b, {"a": jnp.arange(3), "b": jnp.arange(2)})
    >>> table.tolist()
    [[0, 10], [1, 11], [2, 12]]
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk = {chunk}: at least 1 combination at a time is needed")
    if not axes:
        raise ValueError("axes is empty: a sweep needs something to sweep over")
    lengths = {name: _length(name, values) for name, values in axes.items()}
    n = math.prod(lengths.values())

    def at(i):
        places = jnp.unravel_index(i, tuple(lengths.values()))
        chosen = {
            name: jax.tree.map(lambda leaf, place=place: leaf[place], values)
            for (name, values), place in zip(axes.items(), places, strict=True)
        }
        return function(**chosen)

    size = min(chunk or n, n)
    results = jax.lax.map(at, jnp.arange(n), batch_size=None if size == 1 else size)
    return jax.tree.map(lambda leaf: leaf.reshape(*lengths.values(), *leaf.shape[1:]), results)


def _length(name: str, values: Any) -> int:
    lengths = {jnp.shape(leaf)[0] if jnp.ndim(leaf) else 0 for leaf in jax.tree.leaves(values)}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(
            f"axes[{name!r}] has leaves of lengths {sorted(lengths)}: all need one, and at least 1 value"
        )
    return lengths.pop()
