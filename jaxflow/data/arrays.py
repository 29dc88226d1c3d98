"""Images in memory, with labels or captions, as a source of examples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import UInt8

from jaxflow.data.codecs import ONE_CLASS, Captions, Classes, vocabulary_of
from jaxflow.data.names import shown

MOST_CHANNELS = 4
MOST_UNNAMED = 1000
"""Largest number of unnamed classes, unless there are more images."""

Annotations = tuple[dict[str, Any], ...]
"""{"label": number} or {"caption": text} of each image."""


@dataclass(frozen=True, eq=False)
class Arrays:
    """Random access to {"image": uint8 (h, w, c), "label" or "caption"}."""

    images: UInt8[np.ndarray, "n h w c"]
    annotations: Annotations

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return {"image": self.images[position], **self.annotations[position]}


def grey_levels(images: Any) -> UInt8[np.ndarray, "n h w c"]:
    """The images with an axis of channels.

    Raises:
        ValueError: they are not uint8 images of this shape; the message says how to convert them.
    """
    images = np.asarray(images)
    if images.dtype != np.uint8:
        raise ValueError(f"images are {images.dtype}: expected uint8 of 0 to 255{_conversion(images)}")
    shape = images.shape
    images = images[..., None] if len(shape) == 3 else images
    if images.ndim != 4 or 0 in shape or images.shape[3] > MOST_CHANNELS:
        first = images.ndim == 4 and 0 < shape[1] <= MOST_CHANNELS < shape[3]
        raise ValueError(
            f"images have the shape {shape}: expected (n, h, w, c) with c from 1 to {MOST_CHANNELS}, or"
            " (n, h, w), and at least one image"
            + ("; channels come last, images.transpose(0, 2, 3, 1)" if first else "")
        )
    return images


def labelled(labels: Any, n: int, names: Sequence[str] | None) -> tuple[Classes, Annotations]:
    """The classes, and the label of each of n images.

    Raises:
        ValueError: the labels are not n class numbers, or two names are equal.
    """
    labels = np.asarray(labels)
    if labels.shape != (n,):
        raise ValueError(f"labels have the shape {labels.shape}: expected a number for each image, {(n,)}")
    if labels.dtype.kind not in "iu":
        raise ValueError(
            f"labels are {labels.dtype}: expected class numbers, from 0;"
            " names, labels = np.unique(labels, return_inverse=True)"
        )
    if names is None and labels.max() >= max(n, MOST_UNNAMED):
        raise ValueError(
            f"labels[{labels.argmax()}] = {labels.max()}, but there are {n} images: pass the names of"
            " the classes, or number them from 0 by np.unique(labels, return_inverse=True)"
        )
    codec = Classes(tuple(map(str, range(labels.max() + 1) if names is None else names)))
    wrong = (labels < 0) | (labels >= len(codec.names))
    if wrong.any():
        i = wrong.argmax()
        raise ValueError(f"labels[{i}] = {labels[i]}: the classes are 0 to {len(codec.names) - 1}")
    return codec, tuple({"label": label} for label in labels.tolist())


def captioned(captions: Sequence[str], n: int) -> tuple[Captions, Annotations]:
    """The vocabulary of the captions, and the caption of each of n images.

    Raises:
        ValueError: the captions are not n non-empty texts.
    """
    if isinstance(captions, str) or len(captions) != n:
        given = f"'{shown(captions)}'" if isinstance(captions, str) else f"{len(captions)} texts"
        raise ValueError(f"captions = {given}: expected a list of {n} texts, one for each image")
    for i, caption in enumerate(captions):
        if not isinstance(caption, str) or not caption.strip():
            raise ValueError(f"captions[{i}] = {caption!r}: expected a text that is not empty")
    return vocabulary_of(captions), tuple({"caption": str(caption)} for caption in captions)


def unlabelled(n: int) -> tuple[Classes, Annotations]:
    """One class for all images."""
    return ONE_CLASS, ({"label": 0},) * n


def _conversion(images: np.ndarray) -> str:
    if images.dtype.kind not in "biuf" or not images.size:
        return ""
    low, high = images.min(), images.max()
    if images.dtype == bool:
        return "; 255 * images.astype('uint8')"
    if images.dtype.kind == "f" and -1 <= low < 0 and high <= 1:
        return "; from [-1, 1] by np.round(127.5 * images + 127.5).astype('uint8')"
    if images.dtype.kind == "f" and low >= 0 and high <= 1:
        return "; from [0, 1] by np.round(255 * images).astype('uint8')"
    if low >= 0 and high <= 255:
        return "; images.round().astype('uint8')"
    return f", these are {low} to {high}"
