"""What a classifier says about a set of images: Inception score and class entropy, in nats.

    Inception score = exp(H(mean of p) - mean of H(p)),    H(p) = - sum of p_k log p_k

for the probabilities p of the classes of each image: the exponential of the mutual information between image
and class, from 1 to the number of classes. It grows if images are clear and classes balanced; it sees neither
real images nor differences between the images of a class. The class entropy is that of the shares of the
classes, log K if K classes are equally frequent.

Both are estimated from the shares in the sample, which makes the entropy too low by about (K - 1) / 2n for n
images of K classes, and the score too high.

Source: Salimans et al. 1606.03498 (the score), Barratt and Sharma 1801.01973 (its limits), Miller 1955 (the
bias).
"""

from itertools import pairwise

import numpy as np
from jaxtyping import Float, Int
from scipy.special import entr

from jaxflow.evaluation import points

Probabilities = Float[np.ndarray, "n classes"]


def inception_score(probabilities: Probabilities) -> float:
    """The score of all images together.

    >>> clear, unclear = np.eye(4), np.full((4, 4), 0.25)
    >>> inception_score(clear), inception_score(unclear)
    (4.0, 1.0)

    Raises:
        ValueError: these are not the probabilities of the classes of at least one image.
    """
    _check(probabilities)
    each = np.asarray(probabilities, np.float64)
    return float(np.exp(np.sum(entr(each.mean(axis=0))) - np.mean(np.sum(entr(each), axis=1))))


def over_splits(probabilities: Probabilities, splits: int = 10) -> tuple[float, float]:
    """Mean and standard deviation of the scores of parts of equal size: the score as it is published.

    A part has fewer images than the whole, and so a higher score on average. Parts follow the order of the
    images, as in the paper: shuffle images that are sorted by class. The deviation divides by the number of
    parts, as in the paper and torch-fidelity; torchmetrics divides by one less.

    Raises:
        ValueError: these are not the probabilities of at least one image in each part.
    """
    _check(probabilities)
    n = len(probabilities)
    if not 1 <= splits <= n:
        raise ValueError(f"splits = {splits}: must be from 1 to {n}, the number of images")
    edges = np.arange(splits + 1) * n // splits
    scores = [inception_score(probabilities[i:j]) for i, j in pairwise(edges)]
    return float(np.mean(scores)), float(np.std(scores))


def class_entropy(classes: Int[np.ndarray, " n"]) -> float:
    """Entropy of the shares of the classes, such as those that a classifier sees in generated images.

    >>> round(float(np.exp(class_entropy(np.array([0, 0, 7, 7])))), 12)  # as of two equal classes
    2.0

    Raises:
        ValueError: there is no image.
    """
    if not len(classes):
        raise ValueError("classes is empty: expected the class of each image")
    counts = np.unique(classes, return_counts=True)[1]
    return float(np.sum(entr(counts / len(classes))))


def _check(probabilities: Probabilities) -> None:
    points.check(probabilities=probabilities)
    sums, least = np.asarray(probabilities.sum(axis=1)), probabilities.min(axis=1)
    wrong = (np.abs(sums - 1) > 1e-3) | (least < 0)
    if wrong.any():
        i = int(np.argmax(wrong))
        raise ValueError(
            f"probabilities[{i}] has the sum {sums[i]:.6g} and the minimum {least[i]:.6g}: expected numbers"
            " from 0 to 1 with the sum 1, the softmax of logits"
        )
