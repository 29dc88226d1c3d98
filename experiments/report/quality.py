"""Metrics of images with classes, by a classifier trained on real images only.

    accuracy    share of images that the judge assigns to their class

and the figures of `experiments/report/comparison.py`. The classes of generated images have the frequencies of
the held-out ones, so that a perfect generator scores like real images.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Int, UInt8

from experiments.report import comparison
from experiments.report.comparison import Comparison, Seen
from jaxflow.data.batches import Batch, load
from jaxflow.data.dataset import Dataset
from jaxflow.evaluation import strata
from jaxflow.evaluation.judge import train_judge
from jaxflow.evaluation.psnr import psnr

Images = UInt8[np.ndarray, "n *image"]
Decode = Callable[[Images], Images]
COLUMNS = ("accuracy", "frechet", "frechet pixels", "precision", "recall", "nearest")


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
    """

    def __init__(
        self, real: Real, labels: Int[np.ndarray, " n"], *, seed: int, steps: int, sharding: NamedSharding
    ):
        train, test = real.train["image"], real.test["image"]
        drawn = comparison.draw(real.train["y"], real.test["y"], labels)
        self.labels, self._real_labels = labels, real.test["y"][drawn.real]
        classes = 1 + max(int(y.max()) for y in (labels, real.train["y"], real.test["y"]))
        self._judge = train_judge(
            jax.random.key(seed),
            train[drawn.judged],
            real.train["y"][drawn.judged],
            classes,
            steps=steps,
            sharding=sharding,
        )
        self._real, (_, reference) = test[drawn.real], self._look(train[drawn.reference])
        self._real_seen = self._look(self._real)
        self._compare = Comparison(train, reference, self._real_seen[1], labels)
        self.warnings = self._compare.warnings(held_out=real.held_out, learned=classes > 1)
        """Metrics that are unreliable, and why."""
        self.size = self._compare.size
        """Images of a set that is compared."""
        self.label = "real" if real.held_out else "training"
        """Name of the row of real images."""

    def _look(self, images: Images) -> tuple[Int[np.ndarray, " n"], Seen]:
        classes, features = self._judge(images)
        return classes, Seen(images, features)

    def real(self) -> dict[str, float]:
        """Metrics of real images."""
        return self._of_real(*self._real_seen)

    def decoded(self, decode: Decode) -> tuple[dict[str, float], float]:
        """Metrics of real images that an autoencoder has encoded and decoded, and their median PSNR."""
        images = decode(self._real)
        return self._of_real(*self._look(images)), float(np.median(psnr(self._real, images)))

    def _of_real(self, classes: Int[np.ndarray, " n"], seen: Seen) -> dict[str, float]:
        return {"accuracy": float(np.mean(classes == self._real_labels))} | self._compare.real(seen)

    def __call__(self, images: Images) -> dict[str, float]:
        """Metrics of generated images, one per label."""
        classes, seen = self._look(images)
        return {"accuracy": float(np.mean(classes == self.labels))} | self._compare(seen)
