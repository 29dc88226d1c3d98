"""Requests for images: the condition of each, and the numbers that fix its noise.

    key of an image = fold_in(fold_in(key(seed), hash of its condition), number of equal conditions before it)

so that the fifth image of class 3 is the same, for a seed, in a row of ten, in a grid and alone.
"""

import unicodedata
import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from jaxflow.data.codecs import Classes, Codec, stack
from jaxflow.typing import Condition

ClassOrPrompt = int | str | None
"""A class by its number or name, or a prompt; None is unconditional."""


class Request(NamedTuple):
    """A request for n images."""

    y: Condition
    """(n, ...)."""
    shown: UInt32[Any, " n"]
    """Hash of the condition."""
    number: UInt32[Any, " n"]
    """Number of earlier images with the same condition."""


def request(codec: Codec, said: Sequence[ClassOrPrompt], y: Sequence[Condition] | None = None) -> Request:
    """The request for an image of each of these classes or prompts.

    Args:
        codec: of the model.
        said: class or prompt of each image.
        y: the condition of each, where it is already known.

    Raises:
        ValueError: there is no such class, or the prompt cannot be encoded; the message names it.
    """
    different = {one: i for i, one in enumerate(dict.fromkeys(said))}
    if y is None:
        made = stack([encode(codec, one) for one in different])
        index = np.fromiter((different[one] for one in said), np.int64, len(said))
        y_stacked = jax.tree.map(lambda leaf: leaf[index], made)
    else:
        y_stacked = stack(y)
    names = {one: _name(codec, one) for one in different}
    hashes = {one: zlib.crc32(name.encode(errors="surrogateescape")) for one, name in names.items()}
    seen: Counter[str] = Counter()
    numbers = np.empty(len(said), np.uint32)
    for i, one in enumerate(said):
        numbers[i] = seen[names[one]]
        seen[names[one]] += 1
    shown = np.fromiter((hashes[one] for one in said), np.uint32, len(said))
    return Request(y_stacked, shown, numbers)


def encode(codec: Codec, said: ClassOrPrompt) -> Condition:
    """The condition y of a class or prompt; None is unconditional.

    Raises:
        ValueError: there is no such class, or the prompt cannot be encoded.
    """
    return codec.null if said is None else codec.encode(said)


def keys_of(seed: int | np.integer | Array, wanted: Request) -> Key[Array, " n"]:
    """The random key of each image."""
    fold = jax.vmap(jax.random.fold_in)
    shown = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), wanted.shown)
    return fold(shown, wanted.number)


def _name(codec: Codec, said: ClassOrPrompt) -> str:
    """Equal for a class by number and by name, and for prompts equal up to white space and form of accents.

    The condition itself is not hashed: what a frozen encoder returns depends on the device.
    """
    if said is None:
        return ""
    if isinstance(codec, Classes):
        return f"class {int(codec.encode(said))}"
    return f"prompt {' '.join(unicodedata.normalize('NFC', str(said)).split())}"
