"""The examples of a prepared data set: texts as such, and errors that say which one cannot be read."""

from collections.abc import Iterator, Sequence
from typing import Any


class Prepared:
    """Random access to the examples in prepared files.

    Raises:
        OSError: an example cannot be read or decoded; the message says which, and what to do.
    """

    def __init__(self, source: Any, name: str):
        self._source, self._name = source, name

    def __len__(self) -> int:
        return len(self._source)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[position] for position in range(len(self)))

    def __getitem__(self, position: int) -> dict[str, Any]:
        try:
            return _with_texts(self._source.__getitems__([position])[0])
        except Exception as error:  # whatever reader and decoder stumble over, RuntimeError mostly
            raise OSError(
                f"example {position} of {self._name} cannot be read, {error}: prepare it again in another"
                " folder and name that with --data-dir"
            ) from error

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        try:
            return [_with_texts(example) for example in self._source.__getitems__(positions)]
        except Exception:
            return [self[position] for position in positions]


def _with_texts(example: dict[str, Any]) -> dict[str, Any]:
    """TFDS has texts as bytes."""
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in example.items()}
