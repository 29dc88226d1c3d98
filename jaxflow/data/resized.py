"""A data set whose square images are resized as they are read, with antialiasing (Lanczos)."""

import dataclasses
from typing import Any

import numpy as np
from PIL import Image

from jaxflow.data.dataset import Dataset
from jaxflow.data.mapped import Mapped


def resized(dataset: Dataset, size: int) -> Dataset:
    """The data set with images of size x size."""
    *sides, channels = dataset.image_shape
    if sides == [size, size]:
        return dataset

    def change(_: int, example: dict[str, Any]) -> dict[str, Any]:
        picture = Image.fromarray(example["image"]).resize((size, size), Image.Resampling.LANCZOS)
        return {**example, "image": np.asarray(picture)}

    return dataclasses.replace(
        dataset,
        source=Mapped(dataset.source, change, of_image=True),
        image_shape=(size, size, channels),
        identity=f"{dataset.fingerprint} resized to {size}",
    )
