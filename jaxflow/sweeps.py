"""Sweeps: one function at every combination of settings, all numeric ones in one compiled program.

The function closes over its noise or keys, so that all combinations share them, and their differences are due
to the settings, not to the draw.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping, Set
from itertools import product
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxflow import ranges


def sweep(function: Callable[..., Any], axes: Mapping[str, Any], *, chunk: int | None = None) -> Any:
    """`function(**{name: value})` at every combination of the axes, stacked.

    Wrap the whole call in `jax.jit`. An axis may be:

        an array (n, ...), keys, a list of numbers    traced: one program for all
        a pytree of arrays, such as a path            likewise; its scalars are held fixed
        a list or tuple of anything else              looped in Python, one trace each: paths of two
                                                      classes, rules, solvers, grids of several lengths
        a number, or anything without an array        held fixed; adds no axis to the result

    Args:
        function: maps keyword arguments, one per axis, to a pytree of arrays.
        axes: the settings by name; all arrays of one axis have the same leading axis.
        chunk: number of traced combinations that `jax.vmap` computes at a time; all by default. Memory grows
            with it. 1 is a loop in the compiled program, in which `jax.lax.cond` runs one branch only.

    Returns:
        The function's results, with one leading axis per axis of the sweep, in order. (`jax.jit` passes
        a dictionary argument on in alphabetical order.)

    Raises:
        ValueError: there are no axes, an axis is empty, has leaves of different lengths or is neither list
            nor pytree, chunk is below 1, or the results along a looped axis differ in shape.

    >>> table = sweep(lambda a, b: a + 10 * b, {"a": [0, 1, 2], "b": jnp.arange(2)})
    >>> table.tolist()
    [[0, 10], [1, 11], [2, 12]]
    >>> sweep(lambda f, t: f(t), {"f": (jnp.sin, jnp.cos), "t": [0.0]}).tolist()
    [[0.0], [1.0]]
    """
    if chunk is not None:
        ranges.at_least(1, chunk=chunk)
    if not axes:
        raise ValueError("axes is empty: expected at least one axis to sweep over")
    axes = {name: np.asarray(values) if _is_number_list(values) else values for name, values in axes.items()}
    lengths = {name: _length(name, values) for name, values in axes.items()}
    looped = [name for name, values in axes.items() if _is_list(values)]
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
            raise ValueError(f"axes {looped}: results of shapes {shapes}: must all have the same shape")
        stacked = jnp.stack(leaves).reshape(*shape, *jnp.shape(leaves[0]))
        return jnp.transpose(stacked, (*order, *range(len(order), stacked.ndim)))

    return jax.tree.map(stack, *results)


def _trace(function, settings: dict, traced: dict, lengths: dict, chunk: int | None) -> Any:
    """The function at all combinations of the traced axes, with one leading axis for each."""
    shape = tuple(lengths[name] for name in traced)
    if not shape:
        return function(**settings)
    n = math.prod(shape)

    def at(i):
        indices = jnp.unravel_index(i, shape)
        chosen = {
            name: jax.tree.map(lambda leaf, index=index: _entry(leaf, index), values)
            for (name, values), index in zip(traced.items(), indices, strict=True)
        }
        return function(**settings, **chosen)

    size = min(chunk or n, n)
    results = jax.lax.map(at, jnp.arange(n), batch_size=None if size == 1 else size)
    return jax.tree.map(lambda leaf: leaf.reshape(*shape, *leaf.shape[1:]), results)


def _entry(leaf: Any, index: Any) -> Any:
    return jnp.asarray(leaf)[index] if _is_swept(leaf) else leaf


def _is_swept(leaf: Any) -> bool:
    return isinstance(leaf, (jax.Array, np.ndarray)) and leaf.ndim > 0


def _is_list(values: Any) -> bool:
    """Whether the axis is a list of settings; a named tuple is a single setting."""
    return type(values) in (list, tuple, range)


def _is_number_list(values: Any) -> bool:
    """Whether the axis is a list of numbers, which becomes an array; True and False are settings."""
    return _is_list(values) and bool(values) and all(_is_number(value) for value in values)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float, complex, np.number)) and not isinstance(value, bool)


def _length(name: str, values: Any) -> int | None:
    """The number of settings; None for a value that is held fixed."""
    if _is_list(values):
        lengths = {len(values)}
    else:
        leaves = jax.tree.leaves(values)
        _check_leaves(name, leaves)
        lengths = {leaf.shape[0] for leaf in leaves if _is_swept(leaf)}
    if len(lengths) > 1 or 0 in lengths:
        raise ValueError(
            f"axes[{name!r}] has leaves of lengths {sorted(lengths)}: must all be equal, and at least 1"
        )
    return lengths.pop() if lengths else None


def _check_leaves(name: str, leaves: list) -> None:
    """Reject what looks like an axis but would be held fixed: iterators, sets, unregistered dataclasses."""
    for leaf in leaves:
        if isinstance(leaf, (Iterator, Set)):
            raise ValueError(f"axes[{name!r}] is a {type(leaf).__name__}: must be a list or an array")
        if dataclasses.is_dataclass(leaf) and any(
            _is_swept(getattr(leaf, field.name)) for field in dataclasses.fields(leaf)
        ):
            raise ValueError(
                f"axes[{name!r}] is not a pytree: register {type(leaf).__name__} with"
                " jax.tree_util.register_dataclass"
            )
