"""What is said of each image: its class, or a caption as the numbers of its words.

A data set carries one of these. It makes the condition y of an example, names the null condition,
which no example ever gets, and is stored with a trained model, so that prompts are read as captions were.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import jax
import numpy as np
from jaxtyping import Int


@dataclass(frozen=True)
class Classes:
    """y is the number of the class, () int32; null is one past the last."""

    names: tuple[str, ...]

    @property
    def null(self) -> Int[np.ndarray, ""]:
        """The class that says nothing."""
        return np.asarray(len(self.names), np.int32)

    def of(self, example: Mapping[str, Any]) -> Int[np.ndarray, ""]:
        """The condition y of an example with a `label`."""
        return np.asarray(example["label"], np.int32)


PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Captions:
    """y is the caption as numbers of words, (length,) int32, filled up with 0; null is the empty caption.

    Attributes:
        words: the vocabulary; word i has the number i + 2, a word that is not in it 1.
        length: words of a caption that count; what is longer is cut.
    """

    words: tuple[str, ...]
    length: int

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
        return self.encode("")

    def of(self, example: Mapping[str, Any]) -> Int[np.ndarray, " length"]:
        """The condition y of an example with a `caption`."""
        return self.encode(example["caption"])

    def encode(self, caption: str) -> Int[np.ndarray, " length"]:
        """The numbers of the first `length` words."""
        found = [self._numbers.get(word, UNKNOWN) for word in split(caption)][: self.length]
        return np.array(found + [PADDING] * (self.length - len(found)), np.int32)

    def check(self, prompt: str) -> None:
        """Refuse a prompt that the model cannot read.

        Raises:
            ValueError: a word that no caption had, or too many words; the message names them.
        """
        found = split(prompt)
        unknown = [word for word in found if word not in self._numbers]
        if unknown:
            some = ", ".join(self.words[:40]) + (", ..." if len(self.words) > 40 else "")
            raise ValueError(f"prompt {prompt!r}: no caption has the word {unknown[0]!r}; there are {some}")
        if len(found) > self.length:
            cut = " ".join(found[self.length :])
            raise ValueError(f"prompt {prompt!r}: at most {self.length} words are read; {cut!r} is too much")


def split(caption: str) -> list[str]:
    """Words and signs of a caption, in lower case.

    >>> split("A red circle, left.")
    ['a', 'red', 'circle', ',', 'left', '.']
    """
    return re.findall(r"\w+|[^\w\s]", caption.lower())


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


@runtime_checkable
class Condition(Protocol):
    """`Classes`, `Captions`, or whatever else makes a condition of an example."""

    @property
    def null(self) -> Any:
        """The condition that says nothing, for one example."""
        ...

    def of(self, example: Mapping[str, Any]) -> Any:
        """The condition y of an example: a pytree of arrays."""
        ...


def stack(conditions: Sequence[Any]) -> Any:
    """The conditions of single examples, trees of one structure, as one with a leading axis."""
    return jax.tree.map(lambda *leaves: np.stack(leaves), *conditions)
