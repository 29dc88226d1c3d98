"""Examples of another source, each changed by a function as it is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Example = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Mapped:
    """`change(position, example)` of each example.

    Attributes:
        source: `len` and random access, as of a `Dataset`.
        change: returns the changed example.
        of_image: whether the image is changed, and not only what is said of it.
    """

    source: Any
    change: Callable[[int, Example], Example]
    of_image: bool = False

    def __len__(self) -> int:
        return len(self.source)

    def __iter__(self) -> Iterator[Example]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> Example:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[Example]:
        examples = at(self.source, positions)
        return [self.change(i, example) for i, example in zip(positions, examples, strict=True)]


def at(source: Any, positions: Sequence[int]) -> list[Any]:
    """The examples of a source at these positions."""
    if hasattr(source, "__getitems__"):
        return source.__getitems__(positions)
    return [source[position] for position in positions]
