"""What is said of each image, its class or a caption, as the condition y.

A data set carries a codec, and so does a trained model, so that prompts are read as captions were. It makes y
of an example (`of`) and of what people write (`encode`), and names null, the condition that no example has.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Protocol, runtime_checkable

import jax
import numpy as np
from annotated_types import Interval, Len
from jaxtyping import Int

from jaxflow.data.words import split

MOST_NAMED = 40
"""Classes or words that a message lists."""


@runtime_checkable
class Codec(Protocol):
    """`Classes`, `Captions`, or whatever else makes a condition of what is said."""

    @property
    def null(self) -> Any:
        """The condition that says nothing, for one example."""
        ...

    def of(self, example: Mapping[str, Any]) -> Any:
        """The condition y of an example: a pytree of arrays."""
        ...

    def encode(self, said: Any) -> Any:
        """The condition y of a label or prompt; a ValueError where it cannot be read."""
        ...


@dataclass(frozen=True)
class Classes:
    """y is the number of the class, () int32; null is one past the last."""

    names: Annotated[tuple[str, ...], Len(1)]

    def __post_init__(self) -> None:
        twice = [name for name, number in Counter(self.names).items() if number > 1]
        if twice:
            raise ValueError(f"names: {twice[0]!r} is there twice; each class has a name of its own")

    @property
    def null(self) -> Int[np.ndarray, ""]:
        """The class that says nothing."""
        return np.asarray(len(self.names), np.int32)

    def of(self, example: Mapping[str, Any]) -> Int[np.ndarray, "..."]:
        """The condition y of an example with a `label`, the number of a class.

        Raises:
            ValueError: there is no class of this number.
        """
        return self._checked(example["label"])

    def encode(self, label: int | np.integer | str) -> Int[np.ndarray, ""]:
        """The condition y of a class, by its number or its name.

        Raises:
            ValueError: there is no such class; the message lists those there are.

        >>> Classes(("cat", "dog")).encode("dog").item()
        1
        """
        if not isinstance(label, str):
            return self._checked(label)
        if label not in self.names:
            raise self._unknown(repr(label))
        return np.asarray(self.names.index(label), np.int32)

    def _checked(self, label: Any) -> Int[np.ndarray, "..."]:
        number = np.asarray(label)
        if number.dtype.kind not in "iu" or not np.all((number >= 0) & (number < len(self.names))):
            raise self._unknown(label)
        return number.astype(np.int32)

    def _unknown(self, label: Any) -> ValueError:
        names = [name if name == str(i) else f"{i} {name}" for i, name in enumerate(self.names)]
        return ValueError(f"label = {label}: the classes are {_some(names)}")


ONE_CLASS = Classes(("image",))
"""Of images of which nothing is said."""


PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Captions:
    """y is the caption as numbers of words, (length,) int32, filled up with 0; null is the empty caption.

    Attributes:
        words: the vocabulary; word i has the number i + 2, a word that is not in it 1.
        length: words of a caption that count; what is longer is cut.
    """

    words: tuple[str, ...]
    length: Annotated[int, Interval(ge=1, le=2**16)]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: i + 2 for i, word in enumerate(self.words)}

    @property
    def vocabulary(self) -> int:
        """Number of different numbers."""
        return len(self.words) + 2

    @property
    def null(self) -> Int[np.ndarray, " length"]:
        """The empty caption."""
        return self._y([])

    def of(self, example: Mapping[str, Any]) -> Int[np.ndarray, " length"]:
        """The condition y of an example with a `caption`: its first `length` words."""
        return self._y(split(example["caption"])[: self.length])

    def encode(self, prompt: Any) -> Int[np.ndarray, " length"]:
        """The condition y of a prompt, which is read whole or refused.

        Raises:
            ValueError: a word that no caption had, or too many words; the message names them.

        >>> Captions(("a", "red", "circle"), 4).encode("A circle").tolist()
        [2, 4, 0, 0]
        """
        if not isinstance(prompt, str):
            raise ValueError(f"prompt = {prompt!r}: a text is needed, such as {' '.join(self.words[:3])!r}")
        found = split(prompt)
        unknown = [word for word in found if word not in self._numbers]
        if unknown:
            raise ValueError(
                f"prompt {prompt!r}: no caption has the word {unknown[0]!r}; there are {_some(self.words)}"
            )
        if len(found) > self.length:
            cut = " ".join(found[self.length :])
            raise ValueError(f"prompt {prompt!r}: at most {self.length} words are read; {cut!r} is too much")
        return self._y(found)

    def _y(self, words: Sequence[str]) -> Int[np.ndarray, " length"]:
        numbers = [self._numbers.get(word, UNKNOWN) for word in words]
        return np.array(numbers + [PADDING] * (self.length - len(numbers)), np.int32)


def vocabulary_of(captions: Iterable[str], *, most_words: int = 8000, longest: int = 64) -> Captions:
    """The words of these captions, the most frequent first, and the length of the longest up to `longest`."""
    counts: Counter[str] = Counter()
    length = 1
    for caption in captions:
        found = split(caption)
        counts.update(found)
        length = max(length, len(found))
    ordered = sorted(counts, key=lambda word: (-counts[word], word))
    return Captions(tuple(ordered[:most_words]), min(length, longest))


def stack(conditions: Sequence[Any]) -> Any:
    """The conditions of single examples, trees of one structure, as one with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *conditions)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:MOST_NAMED]) + (", ..." if len(names) > MOST_NAMED else "")
