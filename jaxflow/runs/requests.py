"""What is asked for: the condition of each image, and the numbers from which its noise is drawn.

    key of an image = fold_in(fold_in(key(seed), hash of what it shows), how many before it show the same)

so that the fifth 3 of a seed is the same picture in a row of ten, in a page of all classes, and alone.
"""

import zlib
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Array, Key, UInt32

from jaxflow.data.codecs import Classes, Codec, stack
from jaxflow.typing import Condition

Said = int | str | None
"""A class by its number or name, or a prompt; None for null."""


class Request(NamedTuple):
    """What n images shall show."""

    y: Condition
    """(n, ...)."""
    shown: UInt32[Any, " n"]
    """Hash of what is shown."""
    number: UInt32[Any, " n"]
    """How many before it show the same."""


def request(codec: Codec, said: Sequence[Said], y: Sequence[Condition] | None = None) -> Request:
    """The request for an image of each of these classes or prompts.

    Args:
        codec: of the model.
        said: what the images shall show.
        y: the condition of each, where it is known already.

    Raises:
        ValueError: there is no such class, or the prompt cannot be read; it is named.
    """
    if y is None:
        made = {one: codec.null if one is None else codec.encode(one) for one in dict.fromkeys(said)}
        y = [made[one] for one in said]
    names = [_name(codec, one) for one in said]
    seen: Counter[str] = Counter()
    numbers = []
    for name in names:
        numbers.append(seen[name])
        seen[name] += 1
    shown = np.array([zlib.crc32(name.encode(errors="surrogateescape")) for name in names], np.uint32)
    return Request(stack(y), shown, np.array(numbers, np.uint32))


def keys_of(seed: int | Array, wanted: Request) -> Key[Array, " n"]:
    """The random key of each image."""
    fold = jax.vmap(jax.random.fold_in)
    shown = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(seed), wanted.shown)
    return fold(shown, wanted.number)


def _name(codec: Codec, said: Said) -> str:
    """The same for a class by its number and by its name, and for prompts that differ in white space only."""
    if said is None:
        return ""
    if isinstance(codec, Classes):
        return f"class {int(codec.encode(said))}"
    return f"prompt {' '.join(str(said).split())}"
