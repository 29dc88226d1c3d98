"""Compare generated with real images, in sets of equal size and class frequencies.

    frechet          Frechet distance to the reference images, in features of a judge
    frechet pixels   the same in pixels, to as many reference images as there are in a set
    precision        share of the images in the manifold of reference images, in features
    recall           share of reference images in the manifold of the images: diversity
    nearest          median distance in pixels to the nearest training image: memorised if small

The reference is half of the training images, at most `MOST_REAL`; the judge is trained on the others only.
Held-out real images get the same figures, and all sets have the same classes. A Frechet distance grows as its
sets shrink, so generated images are compared in sets of as many as are held out, and a figure is the mean
over these sets: that of a perfect generator is about that of real images.
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from jaxflow.data.dataset import Dataset
from jaxflow.evaluation import strata
from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.manifolds import nearest_distance, precision_recall

Images = UInt8[np.ndarray, "n *image"]
Positions = Int[np.ndarray, " n"]
MOST_REAL = 10_000
"""Reference images, and images of a set."""
MOST_BYTES = 2**31
"""Pixels of a split that are read."""
MOST_NUMBERS = 2**25
"""Most pixel values in a set, which are converted to doubles."""
MOST_NEAREST = 1000
"""Images for which the nearest training image is found: enough for a median."""
NEIGHBOURS = 3
"""The radius of a ball is the distance to the third nearest neighbour, or of fewer to the farthest."""
FEWEST = 2
"""Images in a set: one has no covariance."""
FEW = 50
"""Set size below which a single image moves precision and recall by several hundredths."""


def positions_in(dataset: Dataset) -> Positions:
    """All positions of a data set, or of a large one a random sample whose images fit the memory."""
    n, most = len(dataset), max(1, MOST_BYTES // math.prod(dataset.image_shape))
    if n <= most:
        return np.arange(n)
    return np.sort(np.random.default_rng(6).choice(n, most, replace=False))


class Drawn(NamedTuple):
    """Positions of real images, ordered so that any contiguous part has the class frequencies."""

    reference: Positions
    """Training images to compare with."""
    judged: Positions
    """The other training images, for the judge."""
    real: Positions
    """Held-out images to compare."""


class Seen(NamedTuple):
    """Images with the judge's features."""

    images: Images
    features: Float[np.ndarray, "n d"]


def draw(
    train: Int[np.ndarray, " n"], held_out: Int[np.ndarray, " m"], generated: Int[np.ndarray, " k"]
) -> Drawn:
    """Real images with the class frequencies of the generated ones.

    Args:
        train: class of each training image.
        held_out: class of each held-out image.
        generated: class of each generated image.

    Raises:
        ValueError: there are too few of them.
    """
    half = strata.half(train, seed=0)
    reference = half[strata.sample_like(train[half], generated, MOST_REAL, seed=1)]
    judged = np.setdiff1d(np.arange(len(train)), reference)
    real = strata.sample_like(held_out, generated, len(held_out), seed=2)
    for name, number in (("generated", len(generated)), ("held-out real", len(real))):
        _check(name, number)
    _check("reference (half of the training images of each class)", len(reference))
    return Drawn(reference, judged, real)


def _check(name: str, number: int) -> None:
    if number < FEWEST:
        raise ValueError(
            f"{name} images: {number}, must be at least {FEWEST}: sample more (--per-label or"
            " --captions), or train on more images or with a larger --hold-out"
        )


class Comparison:
    """Figures of sets of images.

    Args:
        train: all training images.
        reference: those to compare with.
        real: held-out images.
        generated: class of each image that will be generated.
    """

    def __init__(self, train: Images, reference: Seen, real: Seen, generated: Positions):
        self._train, self._reference, self._real = train.reshape(len(train), -1), reference, real
        self._order = strata.spread(generated, seed=3)
        self.size = min(len(generated), len(reference.images), len(real.images))
        """Images of a set."""
        self._pixel_size = max(2, min(self.size, MOST_NUMBERS // self._train.shape[1]))
        self._reference_pixels = _vectors(reference.images[: self._pixel_size])

    def real(self, seen: Seen | None = None) -> dict[str, float]:
        """Metrics of the held-out real images, or of what an autoencoder makes of them."""
        return self._figures(seen or self._real, np.arange(len(self._real.images)))

    def __call__(self, generated: Seen) -> dict[str, float]:
        """Metrics of generated images."""
        return self._figures(generated, self._order)

    def _figures(self, seen: Seen, order: Positions) -> dict[str, float]:
        sets = [*_sets(order, self.size)]
        distances = [frechet_distance(seen.features[part], self._reference.features) for part in sets]
        k = min(NEIGHBOURS, self.size - 1)
        shares = [precision_recall(real, some, k) for real, some in self._pairs(seen.features, sets)]
        pixels = [_vectors(seen.images[part]) for part in _sets(order, self._pixel_size)]
        precision, recall = np.mean(shares, axis=0)
        return {
            "frechet": float(np.mean(distances)),
            "frechet pixels": float(np.mean([frechet_distance(p, self._reference_pixels) for p in pixels])),
            "precision": float(precision),
            "recall": float(recall),
            "nearest": self._nearest(seen.images[order[:MOST_NEAREST]]),
        }

    def _pairs(self, features: np.ndarray, sets: Sequence[Positions]) -> Iterator[tuple[np.ndarray, ...]]:
        """Every set and every stretch of the reference at least once: of small sets one says little."""
        others = [*_sets(np.arange(len(self._reference.images)), self.size)]
        for i in range(max(len(sets), len(others))):
            yield self._reference.features[others[i % len(others)]], features[sets[i % len(sets)]]

    def _nearest(self, images: Images) -> float:
        return float(np.median(nearest_distance(images.reshape(len(images), -1), self._train))) / 127.5

    def warnings(self, *, held_out: bool, learned: bool = True) -> list[str]:
        """Metrics that are unreliable, and why.

        Args:
            held_out: whether the real images were held out from training.
            learned: whether the judge had anything to tell apart.
        """
        found = []
        if not learned:
            found.append(
                "all images have one class or the same words: the judge learns nothing, and the features of"
                " frechet, precision and recall are those of a random network"
            )
        dimensions = self._reference.features.shape[1]
        if not held_out:
            found.append(
                "hold_out = 0: the row `training` has training images, which a model may have memorised;"
                " train with --hold-out 0.1 to compare with images that it has not seen"
            )
        if self.size < FEW:
            found.append(
                f"precision and recall of {self.size} images are mostly noise (fewer than {FEW});"
                " sample or hold out more"
            )
        if self.size <= dimensions:
            found.append(
                f"frechet of {self.size} images in {dimensions} dimensions: mostly bias; compare it with the"
                " last row only, or sample and hold out more"
            )
        return found


def _sets(order: Positions, size: int) -> Iterator[Positions]:
    return (order[start : start + size] for start in range(0, len(order) - size + 1, size))


def _vectors(images: Images) -> Float[np.ndarray, "n d"]:
    """Images as vectors of floats in [-1, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1
