import inspect
from math import prod

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_expected

from jaxflow.evaluation import judge, kernel, manifolds
from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.judge import train_judge
from jaxflow.evaluation.kernel import kernel_distance
from jaxflow.evaluation.manifolds import nearest_distance, overlap


def gaussian(n, mean, factor, seed):
    return mean + np.random.default_rng(seed).standard_normal((n, len(mean))) @ factor.T


def test_frechet_distance_of_gaussians_is_the_closed_form():
    """For commuting covariances: |m1 - m2|^2 + sum (sqrt(v1) - sqrt(v2))^2, exactly for exact moments."""
    points = gaussian(500, np.zeros(3), np.eye(3), 0)
    points = (points - points.mean(0)) @ np.linalg.inv(np.linalg.cholesky(np.cov(points.T))).T
    deviations, means = (
        np.array([[1.0, 2.0, 0.5], [0.5, 1.0, 3.0]]),
        np.array([[0.0, 1.0, 2.0], [1.0, 1.0, 0.0]]),
    )
    a, b = (mean + points * deviation for mean, deviation in zip(means, deviations, strict=True))
    expected = np.sum((means[0] - means[1]) ** 2) + np.sum((deviations[0] - deviations[1]) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_is_invariant_to_rotation_and_zero_to_itself():
    a = gaussian(300, np.zeros(4), np.diag([1.0, 2.0, 3.0, 0.0]), 0)
    b = gaussian(300, np.ones(4), np.eye(4), 1)
    rotation = np.linalg.qr(np.random.default_rng(2).standard_normal((4, 4)))[0]
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(a @ rotation, b @ rotation) == pytest.approx(frechet_distance(a, b), rel=1e-6)


def test_frechet_distance_of_fewer_points_than_dimensions():
    a, b = gaussian(7, np.zeros(20), np.eye(20), 0), gaussian(12, np.ones(20), 2 * np.eye(20), 1)
    cov_a, cov_b = np.cov(a.T), np.cov(b.T)
    # The eigenvalues of C1 C2 are those of C1^1/2 C2 C1^1/2.
    cross = np.sqrt(np.maximum(np.linalg.eigvals(cov_a @ cov_b).real, 0)).sum()
    expected = np.sum((a.mean(0) - b.mean(0)) ** 2) + np.trace(cov_a + cov_b) - 2 * cross
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-6)


def test_precision_sees_outliers_and_recall_sees_missing_modes():
    left, right = (
        gaussian(200, np.array([mean, 0.0]), np.eye(2) * 0.1, seed) for mean, seed in ((-3, 0), (3, 1))
    )
    both = np.concatenate([left, right])
    again = np.concatenate(
        [gaussian(200, np.array([m, 0.0]), np.eye(2) * 0.1, s) for m, s in ((-3, 2), (3, 3))]
    )
    far = gaussian(200, np.array([0.0, 9.0]), np.eye(2) * 0.1, 4)
    found = overlap(both, again)
    assert min(found.precision, found.recall) > 0.9
    found = overlap(both, left + 0.001)
    assert found.precision > 0.9
    assert 0.4 < found.recall < 0.6  # one of two modes
    found = overlap(both, np.concatenate([again, far]))
    assert 0.6 < found.precision < 0.75  # two thirds are real
    assert found.recall > 0.9


def test_an_outlier_raises_recall_but_neither_density_nor_coverage():
    """Generated points all at one place, but for one far away, whose ball holds everything."""
    real = gaussian(100, np.zeros(2), np.eye(2), 0)
    left = real[np.argmin(real[:, 0])]
    collapsed = gaussian(100, left, np.eye(2) * 1e-6, 1)
    outlier = np.concatenate([collapsed[1:], [[50.0, 0.0]]])
    before, after = overlap(real, collapsed), overlap(real, outlier)
    assert before.recall < 0.05
    assert after.recall > 0.9
    assert after.density <= before.density
    assert after.coverage == before.coverage < 0.2


def test_density_and_coverage_of_equal_distributions_have_their_means_in_closed_form():
    """Whatever the distribution and dimension: they count ranks among exchangeable points."""
    n, m, k, random = 9, 7, 2, np.random.default_rng(0)
    found = [overlap(random.standard_normal((n, 3)), random.standard_normal((m, 3)), k) for _ in range(600)]
    uncovered = prod((n - i) / (n + m - i) for i in range(1, k + 1))
    assert_expected([each.density for each in found], 1, 6)
    assert_expected([each.coverage for each in found], 1 - uncovered, 6)


@pytest.mark.parametrize(("real", "generated", "k"), [(3, 9, 3), (9, 3, 3), (9, 9, 0)])
def test_points_without_a_kth_neighbour_are_rejected(real, generated, k):
    with pytest.raises(
        ValueError, match=f"k = {k}: must be at least 1 and below .* with {real} real and {generated}"
    ):
        overlap(np.zeros((real, 2)), np.zeros((generated, 2)), k)


NAN = np.array([[0.0, 1.0], [np.nan, 0.0], [np.inf, 0.0]])


@pytest.mark.parametrize(
    ("other", "says"),
    [
        (NAN, r"{name}\[1\] is not finite \(2 of 3 points are not\)"),
        (
            np.zeros((9, 4, 4, 1)),
            r"{name} has the shape \(9, 4, 4, 1\): expected points .* flatten or embed images",
        ),
        (np.zeros(9), r"{name} has the shape \(9,\): expected points \(n, d\)"),
        (np.zeros((0, 2)), r"{name} has the shape \(0, 2\)"),
        (np.zeros((9, 3)), r"dimensions .*'{name}': 3}}: must be equal"),
    ],
)
@pytest.mark.parametrize("metric", [frechet_distance, nearest_distance, overlap, kernel_distance])
def test_what_is_not_a_set_of_points_is_rejected(metric, other, says):
    name = "generated" if metric is overlap else "b"
    with pytest.raises(ValueError, match=says.format(name=name)):
        inspect.unwrap(metric)(np.zeros((9, 2)), other)


def test_one_point_has_no_covariance():
    with pytest.raises(ValueError, match=r"a has the shape \(1, 2\): expected points \(n, d\), n at least 2"):
        frechet_distance(np.zeros((1, 2)), np.zeros((9, 2)))


def test_nearest_distance():
    points = np.array([[0.0, 0.0], [3.0, 4.0]])
    np.testing.assert_allclose(nearest_distance(points, points[:1]), [0.0, 5.0])


def test_pixels_in_blocks_have_the_distances_of_floats(monkeypatch):
    """The nearest is found block by block, its distance exactly."""
    monkeypatch.setattr(manifolds, "BLOCK", 7)
    generator = np.random.default_rng(0)
    a, b = (generator.integers(0, 256, (n, 30), np.uint8) for n in (11, 40))
    exact = np.sqrt(((a[:, None].astype(float) - b[None]) ** 2).sum(-1)).min(1)
    np.testing.assert_allclose(nearest_distance(a, b), exact, rtol=1e-12)
    assert nearest_distance(b[:5], b).tolist() == [0.0] * 5


def test_overlap_and_kernel_distance_do_not_depend_on_blocks(monkeypatch):
    a, b = gaussian(50, np.zeros(3), np.eye(3), 0), gaussian(40, np.ones(3), np.eye(3), 1)
    whole, distance = overlap(a, b), kernel_distance(a, b)
    for module in (manifolds, kernel):
        monkeypatch.setattr(module, "BLOCK", 7)
    chex.assert_trees_all_equal(overlap(a, b), whole)
    assert_close(kernel_distance(a, b), distance, 1e-12)


def test_a_judge_of_several_labels_minimises_their_mean_binary_cross_entropy():
    logits = jnp.array([[0.0, 2.0], [-1.0, 3.0]])
    labels = jnp.array([[True, False], [False, True]])
    p = 1 / (1 + np.exp(-np.asarray(logits)))
    expected = -np.mean(np.where(labels, np.log(p), np.log(1 - p)))
    assert judge._cross_entropy(logits, labels) == pytest.approx(expected, rel=1e-5)


def test_judge_learns_what_can_be_learned(standard_promotion):
    """Bright quadrants by class: a classifier that cannot tell them is broken."""
    labels = np.arange(400) % 4
    images = np.random.default_rng(0).integers(0, 100, (400, 8, 8, 1)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(label, 2)
        image[4 * row : 4 * row + 4, 4 * column : 4 * column + 4] += 120
    trained = train_judge(jax.random.key(0), images[:300], labels[:300], 4, steps=40, batch_size=32)
    classes, features = trained(images[300:])
    assert np.mean(classes == labels[300:]) > 0.95
    assert features.shape == (100, 64)
    # An image is judged the same alone and among others.
    np.testing.assert_allclose(trained(images[300:301])[1], features[:1], atol=1e-4)
