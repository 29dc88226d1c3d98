"""Sweeps: one function at every combination of settings, numbers in one compiled program.

The function closes over its noise or its keys, so that all combinations share them: differences between
two settings are then those of the settings, and not of the draw.
"""

import math
from collections.abc import Callable, Mapping
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def sweep(function: Callable[..., Any], axes: Mapping[str, Any], *, chunk: int | None = None) -> Any:
    """`function(**{name: value})` at every combination of the axes, stacked.

    Compile the whole of it, with `jax.jit`. What an axis may be:

        an array (n, ...), keys, a list of numbers    traced: one program for all
        a pytree of arrays, such as a path            likewise; its scalars are held fixed
        a list or tuple of anything else              looped in Python, one trace each: paths of two
                                                      classes, rules, solvers, grids of several lengths
        a number, or anything without an array        held fixed; no axis of the result

    Args:
        function: keyword arguments, one per axis, to a pytree of arrays.
        axes: the settings for each name; arrays of one axis have the same leading axis.
        chunk: combinations of what is traced that are computed at a time by `jax.vmap`; all if left out.
            Memory grows with it. 1 is a loop in the compiled program, in which `jax.lax.cond` saves what it
            saves outside.

    Returns:
        What the function returns, with one leading axis for each axis of the sweep, in their order. (A
        dictionary that is itself an argument of `jax.jit` arrives there in alphabetical order.)

    Raises:
        ValueError: no axes, an empty axis, or leaves of different lengths in one; chunk is below 1; results
            of a looped axis differ in shape.

    >>> table = sweep(lambda a, b: a + 10 * b, {"a": [0, 1, 2], "b": jnp.arange(2)})
    >>> table.tolist()
    [[0, 10], [1, 11], [2, 12]]
    >>> sweep(lambda f, t: f(t), {"f": (jnp.sin, jnp.cos), "t": [0.0]}).tolist()
    [[0.0], [1.0]]
    """
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk = {chunk}: at least 1 combination at a time is needed")
    if not axes:
        raise ValueError("axes is empty: a sweep needs something to sweep over")
    axes = {name: np.asarray(values) if _numbers(values) else values for name, values in axes.items()}
    lengths = {name: _length(name, values) for name, values in axes.items()}
    looped = [name for name, values in axes.items() if _listed(values)]
    traced = [name for name in axes if name not in looped and lengths[name] is not None]
    fixed = {name: values for name, values in axes.items() if lengths[name] is None}

    def at(*chosen):
        settings = fixed | dict(zip(looped, chosen, strict=True))
        return _trace(function, settings, {name: axes[name] for name in traced}, lengths, chunk)

    results = [at(*chosen) for chosen in product(*(axes[name] for name in looped))]
    order = [[*looped, *traced].index(name) for name in axes if name not in fixed]
    shape = [lengths[name] for name in looped]

    def stack(*leaves):
        if len({jnp.shape(leaf) for leaf in leaves}) > 1:
            shapes = [jnp.shape(leaf)[len(traced) :] for leaf in leaves]
            raise ValueError(f"axes {looped}: results of the shapes {shapes} cannot be stacked")
        stacked = jnp.stack(leaves).reshape(*shape, *jnp.shape(leaves[0]))
        return jnp.transpose(stacked, (*order, *range(len(order), stacked.ndim)))

    return jax.tree.map(stack, *results)


def _trace(function, settings: dict, traced: dict, lengths: dict, chunk: int | None) -> Any:
    """The function at all combinations of the arrays, one leading axis for each."""
    shape = tuple(lengths[name] for name in traced)
    if not shape:
        return function(**settings)
    n = math.prod(shape)

    def at(i):
        places = jnp.unravel_index(i, shape)
        chosen = {
            name: jax.tree.map(lambda leaf, place=place: _entry(leaf, place), values)
            for (name, values), place in zip(traced.items(), places, strict=True)
        }
        return function(**settings, **chosen)

    size = min(chunk or n, n)
    results = jax.lax.map(at, jnp.arange(n), batch_size=None if size == 1 else size)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), results)


def _entry(leaf: Any, place: Any) -> Any:
    return jnp.asarray(leaf)[place] if _swept(leaf) else leaf


def _swept(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray)) and leaf.ndim > 0


def _listed(values: Any) -> bool:
    """Whether it is a list of settings; a named tuple is one setting."""
    return type(values) in (list, tuple)


def _numbers(values: Any) -> bool:
    """Whether it is a list of numbers, which becomes an array; True and False are settings."""
    return _listed(values) and bool(values) and all(_number(value) for value in values)


def _number(value: Any) -> bool:
    return isinstance(value, (int, float, complex, np.number)) and not isinstance(value, bool)


def _length(name: str, values: Any) -> int | None:
    """How many settings there are; None where one is held fixed."""
    if _listed(values):
        lengths = {len(values)}
    else:
        lengths = {leaf.shape[0] for leaf in jax.tree.leaves(values) if _swept(leaf)}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"axes[{name!r}] has leaves of lengths {sorted(lengths)}: all need one, and at least 1 value"
        )
    return lengths.pop() if lengths else None
