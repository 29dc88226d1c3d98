"""Metrics of images with classes, by a classifier trained on real images only.

    accuracy     share of images that the judge assigns to their class
    inception    Inception score of its probabilities, from 1 to the number of classes
    entropy      of the classes that it assigns, in nats
    diversity    mean distance of two images of a class, in features

and the figures of `experiments/report/comparison.py`. The classes of generated images have the frequencies of
the held-out ones, so that a perfect generator scores like real images.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Float, Int, UInt8
from scipy.special import softmax

from experiments.report import comparison
from experiments.report.comparison import Comparison, Seen, of_mean
from jaxflow.data.batches import Batch, load
from jaxflow.data.dataset import Dataset
from jaxflow.evaluation import strata
from jaxflow.evaluation.classes import class_entropy, inception_score
from jaxflow.evaluation.diversity import diversity
from jaxflow.evaluation.intervals import Measured, jackknife, leaving_out
from jaxflow.evaluation.judge import train_judge
from jaxflow.evaluation.psnr import psnr
from jaxflow.pretrained.extractors import Extractor

Images = UInt8[np.ndarray, "n *image"]
Decode = Callable[[Images], Images]
COLUMNS = ("accuracy", "frechet", "frechet pixels", "precision", "recall", "nearest")
"""Figures by which many settings are compared; the JSON has all."""


class Real(NamedTuple):
    """Real images and their classes."""

    train: Batch
    test: Batch
    held_out: bool = True
    """Whether the test images were held out from training."""


def read(split: Callable[[str], Dataset], *, held_out: bool = True) -> Real:
    """The real images to compare with.

    Args:
        split: opens a split of the data by its name.
        held_out: whether the data have a split `test`; if not, a tenth of the training images are compared,
            which at least the judge has not seen.

    Raises:
        ValueError: the data are not those of the training.
        OSError: they are not there.
    """
    train = _load(split("train"))
    if held_out:
        return Real(train, _load(split("test")))
    order = strata.spread(train["y"], seed=4)
    tenth = max(comparison.NEIGHBOURS + 1, len(order) // 10)
    rest, some = np.sort(order[tenth:]), np.sort(order[:tenth])
    return Real(_some(train, rest), _some(train, some), held_out=False)


def _load(dataset: Dataset) -> Batch:
    return load(dataset, comparison.positions_in(dataset))


def _some(batch: Batch, positions: Int[np.ndarray, " n"]) -> Batch:
    return {name: leaf[positions] for name, leaf in batch.items()}


def labels_of(real: Real, classes: int, per_label: int) -> Int[np.ndarray, " n"]:
    """Classes of the images to generate, in the proportions of the real ones, `per_label` of each on average.

    Args:
        real: of which the test images set the frequencies.
        classes: number of classes; each gets at least one image.
        per_label: images per class on average.

    Raises:
        ValueError: there are too few images to compare.
    """
    counts = strata.allocate(np.bincount(real.test["y"], minlength=classes), per_label * classes)
    labels = np.repeat(np.arange(classes, dtype=np.int32), counts)
    comparison.draw(real.train["y"], real.test["y"], labels)
    return labels


class Measure:
    """Figures of sets of generated images, and of real ones.

    Args:
        real: the images to compare with, on a part of which the judge is trained.
        labels: classes of the generated images.
        seed: of the judge.
        steps: of its training.
        sharding: of images over devices.
        extractor: whose features are compared; if None, the judge's.
    """

    def __init__(
        self,
        real: Real,
        labels: Int[np.ndarray, " n"],
        *,
        seed: int,
        steps: int,
        sharding: NamedSharding,
        extractor: Extractor | None = None,
    ):
        self.features = None if extractor is None else extractor.images.name
        """The published network whose features are compared; None if it is the judge."""
        train, test = real.train["image"], real.test["image"]
        drawn = comparison.draw(real.train["y"], real.test["y"], labels)
        self.labels, self._real_labels = labels, real.test["y"][drawn.real]
        self.balance = f"{per_class(labels)}, {len(labels)} in all"
        """The number of images, and the balance of their labels."""
        self.counts = {"images_per_class": np.bincount(labels).tolist()}
        self.counts |= {"real_images_per_class": np.bincount(self._real_labels).tolist()}
        """The same as numbers."""
        classes = 1 + max(int(y.max()) for y in (labels, real.train["y"], real.test["y"]))
        judge = train_judge(
            jax.random.key(seed),
            train[drawn.judged],
            real.train["y"][drawn.judged],
            classes,
            steps=steps,
            sharding=sharding,
        )
        self._look = partial(comparison.look, judge, extractor, sharding)
        self._real, (_, reference) = test[drawn.real], self._look(train[drawn.reference])
        self._real_seen = self._look(self._real)
        self._compare = Comparison(train, reference, self._real_seen[1], labels)
        self.warnings = self._compare.warnings(
            held_out=real.held_out, learned=classes > 1 or extractor is not None
        )
        """Metrics that are unreliable, and why."""
        self.size = self._compare.size
        """Images of a set that is compared."""
        self.label = "real" if real.held_out else "training"
        """Name of the row of real images."""

    def real(self) -> Measured:
        """Metrics of real images."""
        return self._of_real(*self._real_seen)

    def decoded(self, decode: Decode) -> tuple[Measured, float]:
        """Metrics of real images that an autoencoder has encoded and decoded, and their median PSNR."""
        images = decode(self._real)
        return self._of_real(*self._look(images)), float(np.median(psnr(self._real, images)))

    def _of_real(self, logits: Float[np.ndarray, "n classes"], seen: Seen) -> Measured:
        order = np.arange(len(self._real_labels))
        return judged(logits, seen.features, self._real_labels, order, self._compare.real(seen))

    def __call__(self, images: Images) -> Measured:
        """Metrics of generated images, one per label."""
        logits, seen = self._look(images)
        return judged(logits, seen.features, self.labels, self._compare.order, self._compare(seen))


def judged(
    logits: Float[np.ndarray, "n classes"],
    features: Float[np.ndarray, "n d"],
    labels: Int[np.ndarray, " n"],
    order: Int[np.ndarray, " n"],
    compared: Measured,
) -> Measured:
    """What the judge says about images with these labels, and the figures of their comparison."""
    logits, features, labels = logits[order].astype(np.float64), features[order], labels[order]
    probabilities, classes = softmax(logits, axis=1), np.argmax(logits, axis=1)
    hits = (classes == labels).astype(np.float64)
    figures, intervals = {"accuracy": float(np.mean(hits))}, {"accuracy": of_mean(hits, np.ones(len(hits)))}
    of: dict[str, Callable[[Int[np.ndarray, " m"]], float]] = {
        "inception": lambda some: inception_score(probabilities[some]),
        "entropy": lambda some: class_entropy(classes[some]),
        "diversity": lambda some: diversity(features[some], labels[some]),
    }
    for name, figure in of.items():
        figures[name] = figure(np.arange(len(order)))
        left_out = np.array([figure(kept) for kept in leaving_out(len(order))])
        intervals[name] = jackknife(left_out, figures[name])
    return Measured(figures | compared.figures, intervals | compared.intervals)


def per_class(labels: Int[np.ndarray, " n"]) -> str:
    """How many images the classes have.

    >>> per_class(np.array([0, 0, 1, 1, 1])), per_class(np.array([0, 1]))
    ('2 to 3 images of each of 2 classes', '1 image of each of 2 classes')
    """
    counts = np.unique(labels, return_counts=True)[1]
    few, many = int(counts.min()), int(counts.max())
    number = f"{few}" if few == many else f"{few} to {many}"
    return f"{number} image{'s' * (many > 1)} of each of {len(counts)} class{'es' * (len(counts) > 1)}"
