"""Compare generated with real images, in sets of equal size and class frequencies.

    frechet          Frechet distance to the reference images, in features of a judge or a published network
    frechet pixels   the same in pixels, to as many reference images as there are in a set
    kernel           kernel distance to the reference images, in features; of a perfect generator about 0
    precision        share of the images in the manifold of reference images, in features
    density          the same, counted by how many reference images are near; 1 of a perfect generator
    recall           share of reference images in the manifold of the images: diversity
    coverage         share of reference images with an image near them; about 0.875 of a perfect generator
    nearest          median distance in pixels to the nearest training image: memorised if small

The reference is half of the training images, at most `MOST_REAL`; the judge is trained on the others only.
Held-out real images get the same figures, and all sets have the same classes. A Frechet distance grows as its
sets shrink, so generated images are compared in sets of as many as are held out, and a figure is the mean
over these sets: that of a perfect generator is about that of real images, but for what generated images share
with the reference as training images (docs/running.md, What the figures mean).

Intervals of 95 % are for other noise of the generated images or, of recall and coverage, for other reference
images; the Frechet and kernel distances by the jackknife, means and medians over images by the bootstrap
(`jaxflow/evaluation/intervals.py`).
"""

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float, Int, UInt8

from jaxflow.data.dataset import Dataset
from jaxflow.evaluation import frechet, kernel, strata
from jaxflow.evaluation.intervals import Interval, Measured, bootstrap, jackknife, leaving_out
from jaxflow.evaluation.judge import Judge
from jaxflow.evaluation.manifolds import nearest_distance, overlap
from jaxflow.pretrained.extractors import Extractor

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
RESAMPLES, GROUPS = 1000, 20
"""Of the bootstrap, and of the jackknife."""
FEWEST = 2
"""Images in a set: one has no covariance."""
UNKNOWN = Interval(math.nan, math.nan)
"""Of a figure of fewer images than the jackknife needs to leave some out."""
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
    """Images with their features."""

    images: Images
    features: Float[np.ndarray, "n d"]


def look(
    judge: Judge, extractor: Extractor | None, sharding: NamedSharding, images: Images
) -> tuple[Float[np.ndarray, "n labels"], Seen]:
    """The judge's logits, and the features of the extractor, or the judge's if there is none."""
    logits, features = judge.outputs(images)
    return logits, Seen(images, features if extractor is None else extractor.images(images, sharding))


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
        self._reference_features = frechet.fitted(reference.features)
        self.order = strata.spread(generated, seed=3)
        """Positions of the generated images, so that any contiguous part has the class frequencies."""
        self.size = min(len(generated), len(reference.images), len(real.images))
        """Images of a set."""
        self._pixel_size = max(2, min(self.size, MOST_NUMBERS // self._train.shape[1]))
        self._reference_pixels = _vectors(reference.images[: self._pixel_size])

    def real(self, seen: Seen | None = None) -> Measured:
        """Metrics of the held-out real images, or of what an autoencoder makes of them."""
        return self._measured(seen or self._real, np.arange(len(self._real.images)))

    def __call__(self, generated: Seen) -> Measured:
        """Metrics of generated images."""
        return self._measured(generated, self.order)

    def _measured(self, seen: Seen, order: Positions) -> Measured:
        sets = [*_sets(order, self.size)]
        pixels = [_vectors(seen.images[part]) for part in _sets(order, self._pixel_size)]
        to_reference = [frechet.frechet_distance(some, self._reference_pixels) for some in pixels]
        distance, around = self._frechet([seen.features[part] for part in sets])
        apart, within = self._kernel(seen.features, sets)
        manifolds = self._manifolds(seen.features, sets)
        near = self._nearest(seen.images[order[:MOST_NEAREST]])
        figures = {"frechet": distance, "frechet pixels": float(np.mean(to_reference)), "kernel": apart}
        figures |= {name: float(np.sum(sums) / np.sum(counts)) for name, (sums, counts) in manifolds.items()}
        intervals = {"frechet": around, "kernel": within}
        intervals |= {name: of_mean(sums, counts) for name, (sums, counts) in manifolds.items()}
        median = bootstrap(lambda some: np.median(near[some], axis=1), len(near), resamples=RESAMPLES)
        return Measured(
            figures | {"nearest": float(np.median(near))},
            intervals | {"nearest": median},
        )

    def _frechet(self, sets: Sequence[np.ndarray]) -> tuple[float, Interval]:
        """The mean distance of the sets, and its interval, by leaving out the same parts of all sets."""
        mean = lambda parts: float(  # noqa: E731
            np.mean([frechet.between(frechet.fitted(part), self._reference_features) for part in parts])
        )
        if self.size <= FEWEST:
            return mean(sets), UNKNOWN
        left_out = [mean([some[kept] for some in sets]) for kept in leaving_out(self.size, GROUPS)]
        distance = mean(sets)
        return distance, jackknife(np.array(left_out), distance)

    def _kernel(self, features: np.ndarray, sets: Sequence[Positions]) -> tuple[float, Interval]:
        """The same of kernel distances, leaving out single images."""
        pairs = [(features[here], self._reference.features[there]) for there, here in self._pairs(sets)]
        if self.size <= FEWEST:
            return float(np.mean([kernel.kernel_distance(*pair) for pair in pairs])), UNKNOWN
        left_out = np.mean([kernel.left_out(*pair) for pair in pairs], axis=0)
        distance = float(np.mean(left_out))
        return distance, jackknife(left_out, distance)

    def _manifolds(
        self, features: np.ndarray, sets: Sequence[Positions]
    ) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """For each figure, sums over the pairs of sets in which an image is, and how many they are."""
        k = min(NEIGHBOURS, self.size - 1)
        ours, theirs = np.zeros((3, len(features))), np.zeros((3, len(self._reference.features)))
        for there, here in self._pairs(sets):
            found = overlap(self._reference.features[there], features[here], k)
            ours[:, here] += found.balls > 0, found.balls / k, np.ones(len(here))
            theirs[:, there] += found.recalled, found.covered, np.ones(len(there))
        inside, balls, here = ours[:, ours[-1] > 0]
        recalled, covered, there = theirs[:, theirs[-1] > 0]
        return {
            "precision": (inside, here),
            "density": (balls, here),
            "recall": (recalled, there),
            "coverage": (covered, there),
        }

    def _pairs(self, sets: Sequence[Positions]) -> Iterator[tuple[Positions, Positions]]:
        """Every stretch of the reference and every set at least once: of small sets one says little."""
        others = [*_sets(np.arange(len(self._reference.images)), self.size)]
        for i in range(max(len(sets), len(others))):
            yield others[i % len(others)], sets[i % len(sets)]

    def _nearest(self, images: Images) -> Float[np.ndarray, " n"]:
        return nearest_distance(images.reshape(len(images), -1), self._train) / 127.5

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
                " frechet, kernel, precision, density, recall and coverage are those of a random network"
            )
        dimensions = self._reference.features.shape[1]
        if not held_out:
            found.append(
                "hold_out = 0: the row `training` has training images, which a model may have memorised;"
                " train with --hold-out 0.1 to compare with images that it has not seen"
            )
        if self.size < FEW:
            found.append(
                f"precision, recall, density and coverage of {self.size} images are mostly noise (fewer"
                f" than {FEW}); sample or hold out more"
            )
        if self.size <= dimensions:
            found.append(
                f"frechet of {self.size} images in {dimensions} dimensions: mostly bias; compare it with the"
                " last row only, or sample and hold out more"
            )
        return found


def of_mean(sums: Float[np.ndarray, " n"], counts: Float[np.ndarray, " n"]) -> Interval:
    """The interval of the mean of numbers, of which each image has `counts` with the sum `sums`."""
    mean = lambda some: np.sum(sums[some], axis=1) / np.sum(counts[some], axis=1)  # noqa: E731
    return bootstrap(mean, len(sums), resamples=RESAMPLES)


def _sets(order: Positions, size: int) -> Iterator[Positions]:
    return (order[start : start + size] for start in range(0, len(order) - size + 1, size))


def _vectors(images: Images) -> Float[np.ndarray, "n d"]:
    """Images as vectors of floats in [-1, 1]."""
    return images.reshape(len(images), -1).astype(np.float32) / 127.5 - 1
