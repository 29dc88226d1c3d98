"""How good images of classes are, beside real ones; the judge is a classifier that has seen real ones only.

    accuracy         share of images that it sees as the class asked for
    frechet          Frechet distance to the training images in its features
    frechet pixels   the same in pixels, to one half of all real images
    precision        share of generated images within the manifold of held-out real ones
    recall           share of held-out real images within the generated manifold: diversity
    nearest          median distance in pixels to the nearest training image: memorised if small

Real images, in the place of generated, are those held out, and for `frechet pixels` the other half. Both
sides of a comparison have the same sizes there and for generated images.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float, Int, UInt8

from jaxflow.data.batches import Batch, load
from jaxflow.data.dataset import Dataset
from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.judge import train_judge
from jaxflow.evaluation.manifolds import nearest_distance, precision_recall
from jaxflow.runs.model import Model

Images = UInt8[np.ndarray, "n h w c"]
MOST_REAL = 10_000
"""Training images that the generated ones are compared to."""
NEIGHBOURS = 3
"""The balls of the manifolds reach to the third nearest."""


class Real(NamedTuple):
    """Real images and their classes, those of the training and those held out."""

    train: Batch
    test: Batch


def labels_of(model: Model, per_label: int) -> Int[np.ndarray, " n"]:
    """So many labels of each class of the model.

    Raises:
        ValueError: the model is of captions.
    """
    return np.tile(np.arange(len(model.classes), dtype=np.int32), per_label)


def read(split: Callable[[str], Dataset], generated: int) -> Real:
    """The real images, with which so many generated ones are to be compared.

    Args:
        split: opens a split of the data by its name.
        generated: images for each setting.

    Raises:
        ValueError: they are not those of the training, or there are too few of either.
        OSError: they are not there.
    """
    real = Real(*(load(split(name)) for name in Real._fields))
    held_out = len(real.test["y"])
    if min(generated, held_out) <= NEIGHBOURS:
        raise ValueError(
            f"per_label: {generated} images and {held_out} held-out real ones to compare them with; at least"
            f" {NEIGHBOURS + 1} of each are needed"
        )
    return real


class Measure:
    """Figures of sets of generated images; real ones are compared in the same number where that matters.

    Args:
        real: the images to compare with, of which those of the training train the judge.
        labels: of the generated images, of all classes.
        seed: of the judge.
        steps: of its training.
        sharding: of images, over devices.
    """

    def __init__(
        self, real: Real, labels: Int[np.ndarray, " n"], *, seed: int, steps: int, sharding: NamedSharding
    ):
        train, test = (split["image"] for split in real)
        key, classes = jax.random.key(seed), len(np.unique(labels))
        self._judge = train_judge(key, train, real.train["y"], classes, steps=steps, sharding=sharding)
        self._labels, self._test_labels = labels, real.test["y"]
        self._train, self._test = _vectors(train[:MOST_REAL]), _vectors(test[: len(labels)])
        _, self._train_features = self._judge(train[:MOST_REAL])
        self._test_classes, self._test_features = self._judge(test)
        everything = _vectors(np.concatenate([train, test]))
        half = min(len(labels), len(everything) // 2)
        order = np.random.default_rng(0).permutation(len(everything))
        self._halves = everything[order[:half]], everything[order[half : 2 * half]]

    def real(self) -> dict[str, float]:
        """What real images get."""
        features = self._test_features[: len(self._test)]
        # Precision and recall of one real set against another, of the same size.
        precision, recall = precision_recall(features, self._train_features[: len(features)], NEIGHBOURS)
        return {
            "accuracy": float(np.mean(self._test_classes == self._test_labels)),
            "frechet": frechet_distance(features, self._train_features),
            "frechet pixels": frechet_distance(*self._halves),
            "precision": precision,
            "recall": recall,
            "nearest": float(np.median(nearest_distance(self._test, self._train))),
        }

    def __call__(self, images: UInt8[np.ndarray, "n h w c"]) -> dict[str, float]:
        """What generated images get, one of each of the labels."""
        classes, features = self._judge(images)
        features = features[: len(self._test)]
        precision, recall = precision_recall(self._test_features[: len(features)], features, NEIGHBOURS)
        pixels = _vectors(images)
        return {
            "accuracy": float(np.mean(classes == self._labels)),
            "frechet": frechet_distance(features, self._train_features),
            "frechet pixels": frechet_distance(pixels[: len(self._halves[1])], self._halves[1]),
            "precision": precision,
            "recall": recall,
            "nearest": float(np.median(nearest_distance(pixels, self._train))),
        }


def _vectors(images: UInt8[np.ndarray, "n h w c"]) -> Float[np.ndarray, "n d"]:
    """Images as vectors of floats in [-1, 1]; on the host, where the larger data sets are."""
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1
