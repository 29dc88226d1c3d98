"""Inception score, class entropy and the diversity within classes."""

import inspect

import numpy as np
import pytest
from conftest import assert_close, assert_expected
from scipy.spatial.distance import pdist

from jaxflow.evaluation import classes, diversity


def probabilities(n, k=5, seed=0):
    return np.random.default_rng(seed).dirichlet(np.ones(k), n)


def test_the_score_is_the_divergence_from_the_mean():
    p = probabilities(40)
    divergences = np.sum(p * np.log(p / p.mean(axis=0)), axis=1)
    assert_close(classes.inception_score(p), float(np.exp(divergences.mean())), 1e-12)


def test_clear_images_of_unequal_classes_score_the_exponential_of_their_entropy():
    """Probabilities of 0 have no logarithm, and need none."""
    y = np.repeat([0, 1, 2], [50, 30, 20])
    entropy = -sum(s * np.log(s) for s in (0.5, 0.3, 0.2))
    assert_close(classes.class_entropy(y), entropy, 1e-12)
    assert_close(classes.inception_score(np.eye(4)[y]), np.exp(entropy), 1e-12)
    assert classes.class_entropy(y[:50]) == 0


def test_the_entropy_of_few_images_is_too_low_by_millers_term():
    """To first order, of classes that are equally frequent."""
    n, k, random = 400, 5, np.random.default_rng(0)
    found = [classes.class_entropy(random.integers(0, k, n)) for _ in range(2000)]
    assert_expected(np.array(found) - np.log(k), -(k - 1) / (2 * n), 6)


def test_parts_are_those_of_the_paper():
    """Nine images in four parts: 2, 2, 2 and 3."""
    p = probabilities(9)
    scores = [classes.inception_score(part) for part in (p[:2], p[2:4], p[4:6], p[6:])]
    assert_close(classes.over_splits(p, 4), (np.mean(scores), np.std(scores)), 1e-12)
    assert_close(classes.over_splits(p, 1), (classes.inception_score(p), 0.0), 1e-12)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: classes.inception_score(3 * probabilities(4)), r"probabilities\[0\] has the sum 3 and"),
        (
            lambda: classes.inception_score(np.array([[0.5, 0.5], [1.5, -0.5]])),
            r"probabilities\[1\] has the sum 1",
        ),
        (lambda: classes.over_splits(probabilities(4), 5), "splits = 5: must be from 1 to 4"),
        (lambda: classes.class_entropy(np.zeros(0, int)), "classes is empty"),
        (
            lambda: inspect.unwrap(diversity.diversity)(np.zeros((3, 2)), np.zeros(2, int)),
            "classes has the length 2: expected 3",
        ),
    ],
)
def test_what_is_no_set_of_images_is_rejected(call, says):
    with pytest.raises(ValueError, match=says):
        call()


def test_diversity_is_the_mean_distance_of_pairs_over_classes():
    """A class of one image has no pairs; the others count alike, whatever their sizes."""
    points, y = np.random.default_rng(0).standard_normal((31, 4)), np.repeat([3, 0, 7], [10, 20, 1])
    expected = (pdist(points[:10]).mean() + pdist(points[10:30]).mean()) / 2
    assert_close(diversity.diversity(points, y), float(expected), 1e-12)
    assert np.isnan(diversity.diversity(points, np.arange(31)))


def test_equal_images_have_no_diversity_whatever_the_features():
    points = np.repeat(np.random.default_rng(0).standard_normal((1, 64)) * 1e3, 20, axis=0)
    assert diversity.diversity(points, np.zeros(20, int)) < 1e-3


def test_of_a_large_class_some_are_compared(monkeypatch):
    points, y = np.random.default_rng(0).standard_normal((30, 4)), np.zeros(30, int)
    monkeypatch.setattr(diversity, "MOST", 8)
    assert_close(diversity.diversity(points, y), float(pdist(points[:8]).mean()), 1e-12)
