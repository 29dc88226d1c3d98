"""What `others.py` compares: a network of others with the recipe by which it is trained and sampled."""

import os
from collections.abc import Callable
from typing import Protocol

import numpy as np
from jaxtyping import Int, UInt8

CLASSES = 10
BLOCK = 250
"""Images sampled at once."""

Images = UInt8[np.ndarray, "n 28 28 1"]
Labels = Int[np.ndarray, " n"]


class Other(Protocol):
    """A network of others, and how it is trained and sampled."""

    batch: int
    """Images of a step."""
    guided: bool
    """Whether it has a null class."""
    size: int
    """Number of parameters."""
    by: str
    """What computes."""

    def training(self, images: Images, y: Labels) -> Callable[[], float]:
        """A step of training on these data, which returns the loss."""
        ...

    def sample(self, labels: Labels, w: float, steps: int) -> Images:
        """Images of these classes by about so many Heun steps."""
        ...


def cores() -> int:
    """Cores that the process may use."""
    return len(os.sched_getaffinity(0))
