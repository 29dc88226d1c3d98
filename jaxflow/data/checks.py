"""Examples checked on the host, before they go to a device, which would answer with wrong numbers or none.

A class out of range is nan in Flax's `Embed`; an image of another dtype has wrong colours and no error.
"""

from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import jax
import numpy as np

from jaxflow.data.codecs import Codec, stack
from jaxflow.data.dataset import Dataset

Kind = tuple[tuple[int, ...], np.dtype]
"""Shape and dtype."""


def stack_checked(dataset: Dataset, positions: np.ndarray, examples: Sequence[Any]) -> dict[str, Any]:
    """Examples as one batch {"image": uint8 (b, h, w, c), "y": condition with a leading axis}.

    Args:
        dataset: whose examples they are.
        positions: where they stand in it, for the messages.
        examples: decoded.

    Raises:
        ValueError: an image is not uint8 of the data set's shape, a condition not of the shapes and dtypes of
            null, a class out of range, or an embedding not finite; the message says of which example.
    """
    like = {"image": np.empty(dataset.image_shape, np.uint8), "y": dataset.codec.null}
    parts = [
        _part(dataset.codec, i, example) for i, example in zip(positions.tolist(), examples, strict=True)
    ]
    batch = _stack(like, parts)
    if batch is None:
        raise ValueError(_odd_one(like, positions, parts))
    _check_finite(batch, positions)
    return batch


def _part(codec: Codec, position: int, example: Any) -> dict[str, Any]:
    try:
        return {"image": example["image"], "y": codec.of(example)}
    except KeyError as error:
        raise ValueError(f"example {position} has no {error}, only {', '.join(example)}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"example {position} cannot be used: {error}") from error


def _stack(like: Any, parts: Sequence[Any]) -> Any | None:
    with suppress(ValueError):  # of several shapes or structures
        batch = stack(parts)
        if _kinds(batch, 1) == _kinds(like):
            return batch
    return None


def _kinds(tree: Any, axes: int = 0) -> dict[str, Kind]:
    """Of each leaf by its name, without the first axes."""
    leaves = ((path, np.asarray(leaf)) for path, leaf in jax.tree.leaves_with_path(tree))
    return {_name(path): (leaf.shape[axes:], leaf.dtype) for path, leaf in leaves}


def _name(path: tuple[Any, ...]) -> str:
    return jax.tree_util.keystr(path, simple=True, separator=".")


def _odd_one(like: Any, positions: np.ndarray, parts: Sequence[Any]) -> str:
    expected = _kinds(like)
    i, kinds = next((i, kinds) for i, part in enumerate(parts) if (kinds := _kinds(part)) != expected)
    name = next(name for name in expected | kinds if kinds.get(name) != expected.get(name))
    is_, needed = (_described(of.get(name)) for of in (kinds, expected))
    return f"{name} of example {positions[i]} is {is_}: {needed} is needed"


def _described(kind: Kind | None) -> str:
    return "nothing" if kind is None else f"{kind[1]} {kind[0]}"


def _check_finite(batch: Any, positions: np.ndarray) -> None:
    for path, leaf in jax.tree.leaves_with_path(batch):
        finite = np.isfinite(leaf)
        if not finite.all():
            i, *index = np.argwhere(~finite)[0].tolist()
            raise ValueError(
                f"{_name(path)} of example {positions[i]} is {leaf[i, *index]} at {tuple(index)}: finite"
                " numbers are needed"
            )
