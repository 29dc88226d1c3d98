"""A data set of clips of which only the first frames are read."""

import dataclasses
from typing import Any

from jaxflow.data.dataset import Dataset
from jaxflow.data.mapped import Mapped


def shortened(dataset: Dataset, frames: int) -> Dataset:
    """The data set with the first frames of its clips.

    Raises:
        ValueError: its clips have fewer, or it has images.
    """
    length, *image = dataset.image_shape
    if len(image) != 3:
        raise ValueError(f"frames = {frames}: for clips, and the data are images")
    if frames > length:
        raise ValueError(f"frames = {frames}: its clips have {length}")

    def change(_: int, example: dict[str, Any]) -> dict[str, Any]:
        return {**example, "image": example["image"][:frames]}

    return dataclasses.replace(
        dataset,
        source=Mapped(dataset.source, change, of_image=True),
        image_shape=(frames, *image),
        identity=f"{dataset.fingerprint} of {frames} frames",
    )
