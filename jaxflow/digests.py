"""The hash of a value, by which it is recognised again."""

import hashlib
from collections.abc import Iterable
from typing import Any

import jax
import numpy as np


def digest(parts: Iterable[Any], params: Any = ()) -> str:
    """The hash of texts and parameters, in hexadecimal digits.

    >>> digest(["a", 1]) == digest(["a", 1], {"w": np.zeros(1)}), len(digest([]))
    (False, 32)
    """
    found = hashlib.sha256()
    for part in parts:
        encoded = str(part).encode()
        found.update(len(encoded).to_bytes(8) + encoded)
    for leaf in jax.tree.leaves(params):
        found.update(np.asarray(leaf).tobytes())
    return found.hexdigest()[:32]
