"""Captions of a data set as prompts, with the real images that they describe."""

from collections.abc import Sequence

import numpy as np

from jaxflow.data.dataset import Dataset
from jaxflow.runs.requests import Request, request


class Prompts:
    """Some examples of a data set.

    Args:
        dataset: of images with captions.
        positions: of the examples.
    """

    def __init__(self, dataset: Dataset, positions: Sequence[int]):
        examples = dataset.examples(positions)
        self.captions = [example["caption"] for example in examples]
        self.images = np.stack([example["image"] for example in examples])
        self.wanted: Request = request(dataset.codec, self.captions, [dataset.codec.of(e) for e in examples])
