"""The condition y of an image's class or caption.

A data set has a codec, and a trained model keeps it, so that prompts are encoded as captions were. It encodes
the label or caption of an example (`of`) and of a user (`encode`), and defines null, which no example has.
"""

import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Protocol, runtime_checkable

import jax
import numpy as np
from annotated_types import Interval, Len
from jaxtyping import Int

from jaxflow.data.names import shown
from jaxflow.data.words import split

MOST_NAMED, MOST_LISTED = 40, 500
"""Most classes or words in a message, and most characters of these."""
MOST_CHANGED = 5
"""Classes or words added or removed that a message lists."""
MOST_WORDS = 8000
"""Words of a vocabulary."""
MOST_PROMPT = 10_000
"""Characters of a prompt."""


@runtime_checkable
class Codec(Protocol):
    """`Classes`, `Captions`, or anything else that makes conditions of labels or captions."""

    @property
    def null(self) -> Any:
        """The unconditional y of one example."""
        ...

    def of(self, example: Mapping[str, Any]) -> Any:
        """The condition y of an example: a pytree of arrays."""
        ...

    def encode(self, said: Any) -> Any:
        """The condition y of a label or prompt; a ValueError if it cannot be read."""
        ...


@dataclass(frozen=True)
class Classes:
    """y is the class index, () int32; null is one past the last."""

    names: Annotated[tuple[str, ...], Len(1)]

    def __post_init__(self) -> None:
        twice = [name for name, number in Counter(self.names).items() if number > 1]
        if twice:
            raise ValueError(
                f"names: '{shown(twice[0])}' occurs twice; the names of classes must be distinct"
            )

    @property
    def null(self) -> Int[np.ndarray, ""]:
        """The unconditional class."""
        return np.asarray(len(self.names), np.int32)

    def of(self, example: Mapping[str, Any]) -> Int[np.ndarray, "..."]:
        """The condition y of an example with a `label`, the number of a class.

        Raises:
            ValueError: no class has this number.
        """
        return self._checked(example["label"])

    def encode(self, label: int | np.integer | str) -> Int[np.ndarray, ""]:
        """The condition y of a class, by its number or its name.

        Raises:
            ValueError: there is no such class; the message lists all.

        >>> Classes(("cat", "dog")).encode("dog").item()
        1
        """
        if not isinstance(label, str):
            return self._checked(label)
        # Classes of a folder are composed; terminals and file systems may decompose the accents of a name.
        name = label if label in self.names else unicodedata.normalize("NFC", label)
        if name not in self.names:
            raise self._unknown(label)
        return np.asarray(self.names.index(name), np.int32)

    def _checked(self, label: Any) -> Int[np.ndarray, "..."]:
        number = np.asarray(label)
        if number.dtype.kind not in "iu" or not np.all((number >= 0) & (number < len(self.names))):
            raise self._unknown(label)
        return number.astype(np.int32)

    def _unknown(self, label: Any) -> ValueError:
        names = [name if name == str(i) else f"{i} {name}" for i, name in enumerate(self.names)]
        given = f"'{shown(label)}'" if isinstance(label, str) else shown(label)
        return ValueError(f"label = {given}: the classes are {_some(names)}")


ONE_CLASS = Classes(("image",))
"""Of images without labels and captions."""


PADDING, UNKNOWN = 0, 1


@dataclass(frozen=True)
class Captions:
    """y is the word ids of the caption, (length,) int32, padded with 0; null is the empty caption.

    Attributes:
        words: the vocabulary; word i has the id i + 2, unknown words 1.
        length: longest caption in words; longer ones are truncated.
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
        """The condition y of a prompt; unlike captions, prompts are never truncated.

        Raises:
            ValueError: it has a word that is not in the vocabulary, or too many words; the message names
                them.

        >>> Captions(("a", "red", "circle"), 4).encode("A circle").tolist()
        [2, 4, 0, 0]
        """
        if not isinstance(prompt, str):
            raise ValueError(
                f"prompt = {shown(prompt)}: expected a text, such as {' '.join(self.words[:3])!r}"
            )
        if len(prompt) > MOST_PROMPT:
            raise ValueError(f"prompt of {len(prompt):,} characters: must be at most {MOST_PROMPT:,}")
        given, found = f"'{shown(prompt)}'", split(prompt)
        unknown = [word for word in found if word not in self._numbers]
        if unknown:
            raise ValueError(
                f"prompt {given}: no caption has the word '{shown(unknown[0])}'; the words are"
                f" {_some(self.words)}"
            )
        if len(found) > self.length:
            cut = shown(" ".join(found[self.length :]))
            raise ValueError(f"prompt {given}: must be at most {self.length} words; remove '{cut}'")
        return self._y(found)

    def _y(self, words: Sequence[str]) -> Int[np.ndarray, " length"]:
        numbers = [self._numbers.get(word, UNKNOWN) for word in words]
        return np.array(numbers + [PADDING] * (self.length - len(numbers)), np.int32)


def vocabulary_of(captions: Iterable[str], *, most_words: int = MOST_WORDS, longest: int = 64) -> Captions:
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


def difference(old: Codec, new: Codec) -> str | None:
    """The classes or words added and removed between two codecs, in one short line; None if they are equal.

    >>> difference(Captions(("a", "squre"), 2), Captions(("a", "square"), 2))
    "words added: 'square'; removed: 'squre'"
    """
    if old == new:
        return None
    if isinstance(old, Classes) and isinstance(new, Classes):
        changes = _changes("classes", old.names, new.names)
        return changes or "the classes are in another order"
    if isinstance(old, Captions) and isinstance(new, Captions):
        changes = _changes("words", old.words, new.words)
        longest = f"captions of up to {new.length} words, not {old.length}"
        return changes or ("other frequencies of words" if old.length == new.length else longest)
    if type(old) is not type(new):
        return f"{_kind(new)} instead of {_kind(old)}"
    return "another text encoder"


def _changes(what: str, old: Sequence[str], new: Sequence[str]) -> str:
    known, present = set(old), set(new)
    added, removed = (
        [name for name in new if name not in known],
        [name for name in old if name not in present],
    )
    parts = [("added", added), ("removed", removed)]
    told = "; ".join(f"{verb}: {_few(names)}" for verb, names in parts if names)
    return f"{what} {told}" if told else ""


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_CHANGED} more" if len(names) > MOST_CHANGED else ""
    return ", ".join(f"'{shown(name, 20)}'" for name in names[:MOST_CHANGED]) + more


def _kind(codec: Codec) -> str:
    return {Classes: "classes", Captions: "captions"}.get(type(codec), "embedded captions")


def _some(names: Sequence[str]) -> str:
    """The first names, as many as fit a message."""
    listed: list[str] = []
    for name in names[:MOST_NAMED]:
        listed.append(shown(name, 40))
        if sum(map(len, listed)) > MOST_LISTED:
            break
    return ", ".join(listed) + (", ..." if len(names) > len(listed) else "")
