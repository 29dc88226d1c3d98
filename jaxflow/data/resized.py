"""A data set whose square images are resized as they are read, with antialiasing (Lanczos)."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from jaxflow.data.dataset import Dataset


class _Resized:
    """Examples with images of another size."""

    def __init__(self, dataset: Dataset, size: int):
        self._dataset, self._size = dataset, size

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, position: int) -> dict[str, Any]:
        return self.__getitems__([position])[0]

    def __getitems__(self, positions: Sequence[int]) -> list[dict[str, Any]]:
        return [self._small(example) for example in self._dataset.examples(positions)]

    def _small(self, example: dict[str, Any]) -> dict[str, Any]:
        picture = Image.fromarray(example["image"])
        resized = picture.resize((self._size, self._size), Image.Resampling.LANCZOS)
        return {**example, "image": np.asarray(resized)}


def resized(dataset: Dataset, size: int) -> Dataset:
    """The data set with images of size x size."""
    *side, channels = dataset.image_shape
    if side == [size, size]:
        return dataset
    return dataclasses.replace(
        dataset,
        source=_Resized(dataset, size),
        image_shape=(size, size, channels),
        identity=f"{dataset.fingerprint} resized to {size}",
    )
