"""A data set: images at random access, with their labels or captions."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import jax
import numpy as np
from jaxtyping import Shaped

from jaxflow.data import arrays
from jaxflow.data.codecs import MOST_WORDS, Captions, Classes, Codec, difference
from jaxflow.data.mapped import Mapped, at

RESIDENT_BYTES = 2**30
"""A data set is kept in memory if it takes at most this much once decoded."""
BLOCK = 256
"""Examples that are decoded together."""
MOST_HASHED = 1000
"""Examples of a large source whose content is hashed."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images, or clips, with their labels or captions."""

    source: Any
    """`len` and random access, by `__getitem__` or, to many at once, `__getitems__`, to examples that are
    decoded on access: {"image": uint8 of `image_shape`, ...} with a "label", int, or a "caption", str."""
    image_shape: tuple[int, ...]
    codec: Codec
    """Makes the condition y of an example."""
    notes: tuple[str, ...] = ()
    """What was read and how, in plain sentences for the user."""
    identity: str | None = None
    """The fingerprint, if known without reading the examples again."""
    entry: str = "image"
    """Name of what an example has of its image: itself, or its moments."""
    stored: tuple[tuple[int, ...], str] | None = None
    """Shape and dtype of that entry; of the image if None."""

    def __len__(self) -> int:
        return len(self.source)

    @property
    def like(self) -> dict[str, Any]:
        """One example of a batch, of the right shapes and dtypes."""
        shape, dtype = (self.image_shape, "uint8") if self.stored is None else self.stored
        return {self.entry: np.empty(shape, dtype), "y": self.codec.null}

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the content, the same in every process and on every machine.

        Of a folder it covers the names, files and captions of the split's images; of arrays and small sources
        all examples; of sources above `RESIDENT_BYTES` a thousand examples, evenly spaced; of a prepared data
        set its name, version, split and number of examples.
        """
        if self.identity is not None:
            return self.identity
        n = len(self)
        small = n * int(np.prod(self.image_shape)) <= RESIDENT_BYTES or isinstance(self.source, arrays.Arrays)
        positions = np.arange(n) if small else np.linspace(0, n - 1, MOST_HASHED).astype(int)
        digest = hashlib.sha256(repr((n, self.image_shape, getattr(self.codec, "names", None))).encode())
        for block in np.split(positions, range(BLOCK, len(positions), BLOCK)):
            for leaf in jax.tree.leaves(self.examples(block.tolist())):
                digest.update(_bytes(leaf))
        return digest.hexdigest()

    def recode(self, codec: Codec) -> "Dataset":
        """The data set with the codec of a run that was trained on an earlier state of it.

        Classes are matched by name. Classes and words missing from the data set are harmless.

        Raises:
            ValueError: it has a class or word that the codec does not know; the message names it.
        """
        if codec == self.codec:
            return self
        changes = difference(codec, self.codec)
        notes, source = (*self.notes, f"since the run began: {changes}"), self.source
        if isinstance(codec, Classes) and isinstance(self.codec, Classes):
            known = set(self.codec.names) <= set(codec.names)
            numbers = [codec.names.index(name) for name in self.codec.names] if known else []
            source = Mapped(source, lambda _, example: {**example, "label": numbers[example["label"]]})
        elif isinstance(codec, Captions) and isinstance(self.codec, Captions):
            # With a full vocabulary all other words were unknown before.
            known = set(self.codec.words) <= set(codec.words) or len(codec.words) >= MOST_WORDS
            if (set(self.codec.words), self.codec.length) == (set(codec.words), codec.length):
                notes = self.notes  # only their frequencies differ
        else:
            known = False
        if not known:
            raise ValueError(f"the data have changed, {changes}: restore them, or train a new run")
        return replace(self, source=source, codec=codec, notes=notes)

    def examples(self, positions: Sequence[int]) -> list[Any]:
        """The examples at these positions."""
        return at(self.source, positions)

    @classmethod
    def from_arrays(
        cls,
        images: Shaped[np.ndarray, "n h w *c"],
        labels: Sequence[int] | Shaped[np.ndarray, "..."] | None = None,
        captions: Sequence[str] | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> "Dataset":
        """Images in memory, each with a label or a caption; without either all are of one class.

        A test set must be encoded like its training set: with the same `names`, or, for captions, by
        `Dataset.from_source(test.source, training.codec)`.

        Args:
            images: uint8 (n, h, w, c), or (n, h, w) for c = 1.
            labels: n numbers of classes, from 0.
            captions: n texts, instead of labels.
            names: of the classes; if None, their numbers.

        Raises:
            ValueError: an argument is invalid; the message names it and the remedy.

        >>> images = np.zeros((3, 8, 8), np.uint8)
        >>> dataset = Dataset.from_arrays(images, [0, 1, 0], names=("cat", "dog"))
        >>> len(dataset), dataset.image_shape, dataset.codec
        (3, (8, 8, 1), Classes(names=('cat', 'dog')))
        >>> Dataset.from_arrays(images, captions=["a cat", "a dog", "a red cat"]).codec
        Captions(words=('a', 'cat', 'dog', 'red'), length=3)
        """
        pixels = arrays.grey_levels(images)
        if labels is not None and captions is not None:
            raise ValueError("labels and captions are both given: pass one of them")
        if names is not None and labels is None:
            raise ValueError("names of classes are given without labels: pass both or neither")
        codec: Codec
        if labels is not None:
            codec, said = arrays.labelled(labels, len(pixels), names)
        elif captions is not None:
            codec, said = arrays.captioned(captions, len(pixels))
        else:
            codec, said = arrays.unlabelled(len(pixels))
        return cls(arrays.Arrays(pixels, said), pixels.shape[1:], codec)

    @classmethod
    def from_source(cls, source: Any, codec: Codec) -> "Dataset":
        """Examples at random access, such as a Grain data source, a `grain.MapDataset` or a list.

        All images must have the shape of the first; batches reject an example that does not fit.

        Args:
            source: `len` and `[]`, or `__getitems__`, for {"image": uint8 (h, w, c) or (frames, h, w, c),
                "label" or "caption"}.
            codec: `codecs.Classes(names)` for labels, `codecs.vocabulary_of(texts)` for captions.

        Raises:
            ValueError: the source is empty, or its first example has no such image.

        >>> from jaxflow.data.codecs import Classes
        >>> examples = [{"image": np.zeros((8, 8, 3), np.uint8), "label": i} for i in (0, 1)]
        >>> Dataset.from_source(examples, Classes(("cat", "dog"))).image_shape
        (8, 8, 3)
        """
        if not len(source):
            raise ValueError("source is empty: expected at least one example")
        (first,) = cls(source, (0, 0, 0), codec).examples([0])
        if not isinstance(first, Mapping) or "image" not in first:
            has = sorted(first) if isinstance(first, Mapping) else type(first).__name__
            raise ValueError(f"source[0] is {has}: expected a dictionary with an 'image'")
        image = np.asarray(first["image"])
        if image.dtype != np.uint8 or image.ndim not in (3, 4):
            raise ValueError(
                f"image of source[0] is {image.dtype} {image.shape}: expected uint8 (h, w, c), 0 to 255, or a"
                " clip, (frames, h, w, c)"
            )
        return cls(source, image.shape, codec)


def _bytes(leaf: Any) -> bytes:
    """Part of an example, with its dtype and shape."""
    if isinstance(leaf, str):
        return f"str {len(leaf)} ".encode() + leaf.encode(errors="surrogatepass")
    array = np.asarray(leaf)
    return f"{array.dtype} {array.shape} ".encode() + (
        array.tobytes() if array.dtype.kind in "biufcSU" else b""
    )
