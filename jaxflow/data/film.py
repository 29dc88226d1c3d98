"""An open file of moving pictures, of any format: when each frame is shown, and how to decode them."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction

from PIL import Image


@dataclass(frozen=True)
class Film:
    """Frames in the order in which they are shown; valid while the file is open."""

    starts: tuple[Fraction, ...]
    """When each is shown, in seconds after the first; known without decoding any."""
    end: Fraction
    """When the last one ends."""
    frames: Callable[[int], Iterator[tuple[int, Image.Image]]]
    """`frames(first)` decodes frame `first` and all after it, one at a time, with their numbers; it may begin
    with earlier ones. A picture is valid until the next is asked for."""
