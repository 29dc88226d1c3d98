"""What a data set is: images at random access, and what is said of them."""

from typing import Any, NamedTuple

from jaxflow.data.conditions import Condition

RESIDENT_BYTES = 2**30
"""A data set that takes no more than this, decoded, is kept in memory."""


class Dataset(NamedTuple):
    """Images and what is said of them."""

    source: Any
    """Random access, `len` and `__getitems__`, to examples that are decoded when asked for: {"image": uint8
    (h, w, c), ...} with a "label", int, or a "caption", str."""
    image_shape: tuple[int, int, int]
    condition: Condition
    """Makes the condition y of an example."""
