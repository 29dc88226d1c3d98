"""What a data set is: images at random access, and what is said of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Shaped

from jaxflow.data import arrays
from jaxflow.data.codecs import Codec

RESIDENT_BYTES = 2**30
"""A data set that takes no more than this, decoded, is kept in memory."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images and what is said of them."""

    source: Any
    """`len` and random access, by `__getitem__` or, to many at once, `__getitems__`, to examples that are
    decoded when asked for: {"image": uint8 (h, w, c), ...} with a "label", int, or a "caption", str."""
    image_shape: tuple[int, int, int]
    codec: Codec
    """Makes the condition y of an example."""

    def __len__(self) -> int:
        return len(self.source)

    def examples(self, positions: Sequence[int]) -> list[Any]:
        """The examples at these places in the data set."""
        if hasattr(self.source, "__getitems__"):
            return self.source.__getitems__(positions)
        return [self.source[position] for position in positions]

    @classmethod
    def from_arrays(
        cls,
        images: Shaped[np.ndarray, "n h w *c"],
        labels: Sequence[int] | Shaped[np.ndarray, "..."] | None = None,
        captions: Sequence[str] | None = None,
        *,
        names: Sequence[str] | None = None,
    ) -> "Dataset":
        """Images in memory, each with its class or a caption; without either all are of one class.

        A test set is read as its training set is: with the same `names`, or, of captions, by
        `Dataset.from_source(test.source, training.codec)`.

        Args:
            images: uint8 (n, h, w, c), or (n, h, w) for c = 1.
            labels: n numbers of classes, from 0.
            captions: n texts, instead of labels.
            names: of the classes; their numbers if left out.

        Raises:
            ValueError: one of them is of another form; the message says which, and how to mend it.

        >>> images = np.zeros((3, 8, 8), np.uint8)
        >>> dataset = Dataset.from_arrays(images, [0, 1, 0], names=("cat", "dog"))
        >>> len(dataset), dataset.image_shape, dataset.codec
        (3, (8, 8, 1), Classes(names=('cat', 'dog')))
        >>> Dataset.from_arrays(images, captions=["a cat", "a dog", "a red cat"]).codec
        Captions(words=('a', 'cat', 'dog', 'red'), length=3)
        """
        pixels = arrays.grey_levels(images)
        if labels is not None and captions is not None:
            raise ValueError("labels and captions are both given: images have one or the other")
        if names is not None and labels is None:
            raise ValueError("names are those of classes, and there are no labels: give both or neither")
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

        The first example says what shape all images have; batches refuse an example that does not fit.

        Args:
            source: `len` and `[]`, or `__getitems__`, for {"image": uint8 (h, w, c), "label" or "caption"}.
            codec: `codecs.Classes(names)` for labels, `codecs.vocabulary_of(texts)` for captions.

        Raises:
            ValueError: there is no example, or the first has no such image.

        >>> from jaxflow.data.codecs import Classes
        >>> examples = [{"image": np.zeros((8, 8, 3), np.uint8), "label": i} for i in (0, 1)]
        >>> Dataset.from_source(examples, Classes(("cat", "dog"))).image_shape
        (8, 8, 3)
        """
        if not len(source):
            raise ValueError("source has no example: one at least is needed")
        (first,) = cls(source, (0, 0, 0), codec).examples([0])
        if not isinstance(first, Mapping) or "image" not in first:
            has = sorted(first) if isinstance(first, Mapping) else type(first).__name__
            raise ValueError(f"source[0] is {has}: a dictionary with an 'image' is needed")
        image = np.asarray(first["image"])
        if image.dtype != np.uint8 or image.ndim != 3:
            raise ValueError(
                f"image of source[0] is {image.dtype} {image.shape}: uint8 (h, w, c) is needed, 0 to 255"
            )
        return cls(source, image.shape, codec)
