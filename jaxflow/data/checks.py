"""Examples are checked on the host: a device would return wrong numbers without an error.

A class out of range becomes nan in Flax's `Embed`; an image of another dtype gets wrong colours.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from jaxflow.data.codecs import stack
from jaxflow.data.dataset import Dataset

Kind = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype."""


def stack_checked(dataset: Dataset, positions: np.ndarray, examples: Sequence[Any]) -> dict[str, Any]:
    """Examples as one batch {"image": uint8 (b, h, w, c), "y": condition}, with a leading axis.

    Args:
        dataset: the examples' data set.
        positions: their positions in it, for the messages.
        examples: decoded.

    Raises:
        ValueError: an image is not uint8 of the data set's shape, a condition lacks the shapes and dtypes
            of null, a class is out of range, or an embedding is not finite; the message names the example.
    """
    like = dataset.like
    parts = [_part(dataset, i, example) for i, example in zip(positions.tolist(), examples, strict=True)]
    batch = _stack(like, parts)
    if batch is None:
        raise ValueError(_odd_one(like, positions, parts))
    _check_finite(batch, positions)
    return batch


def _part(dataset: Dataset, position: int, example: Any) -> dict[str, Any]:
    try:
        return {dataset.entry: example[dataset.entry], "y": dataset.codec.of(example)}
    except KeyError as error:
        raise ValueError(f"example {position} has no {error}, only {', '.join(example)}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"example {position} cannot be used: {error}") from error


def _stack(like: Any, parts: Sequence[Any]) -> Any | None:
    with suppress(ValueError):  # if shapes or structures differ
        batch = stack(parts)
        if _kinds(batch, 1) == _kinds(like):
            return batch
    return None


def _kinds(tree: Any, axes: int = 0) -> dict[str, Kind]:
    """Shape and dtype of each leaf by its name, without the first axes."""
    leaves = ((path, np.asarray(leaf)) for path, leaf in jax.tree.leaves_with_path(tree))
    return {_name(path): (leaf.shape[axes:], leaf.dtype) for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _odd_one(like: Any, positions: np.ndarray, parts: Sequence[Any]) -> str:
    expected = _kinds(like)
    i, kinds = next((i, kinds) for i, part in enumerate(parts) if (kinds := _kinds(part)) != expected)
    name = next(name for name in expected | kinds if kinds.get(name) != expected.get(name))
    given, like_null = (_described(of.get(name)) for of in (kinds, expected))
    return f"{name} of example {positions[i]} is {given}: expected {like_null}"


def _described(kind: Kind | None) -> str:
    return "nothing" if kind is None else f"{kind[1]} {kind[0]}"


def _check_finite(batch: Any, positions: np.ndarray) -> None:
    for path, leaf in jax.tree.leaves_with_path(batch):
        finite = np.isfinite(leaf)
        if not finite.all():
            i, *index = np.argwhere(~finite)[0].tolist()
            raise ValueError(
                f"{_name(path)} of example {positions[i]} is {leaf[i, *index]} at {tuple(index)}: must be"
                " finite"
            )
