"""Metrics against torchmetrics and prdc."""

import jax
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow.evaluation.classes import inception_score, over_splits
from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.kernel import kernel_distance, over_subsets
from jaxflow.evaluation.manifolds import overlap
from reference.exact import to_torch

torch, prdc, fid = Lazy("torch"), Lazy("prdc"), Lazy("torchmetrics.image.fid")
kid, inception = Lazy("torchmetrics.image.kid"), Lazy("torchmetrics.image.inception")


def two_sets(n, m, d):
    """With different means and covariances and correlated dimensions."""
    a, b, mix = (
        np.asarray(jax.random.normal(jax.random.key(i), shape))
        for i, shape in enumerate([(n, d), (m, d), (d, d)])
    )
    return a, b @ (0.8 * np.eye(d) + 0.5 * mix / np.sqrt(d)) + 0.2


def features(d):
    """A network for torchmetrics: the identity on features of d dimensions."""
    network = torch.nn.Identity()
    network.num_features = d
    return network


@pytest.mark.parametrize(
    ("n", "m", "d", "bound"), [(200, 150, 5, 1e-12), (500, 500, 64, 1e-11), (40, 30, 64, 1e-6)]
)
def test_frechet_distance(n, m, d, bound):
    """With fewer points than dimensions, square roots of zero eigenvalues keep half of the digits."""
    a, b = two_sets(n, m, d)
    metric = fid.FrechetInceptionDistance(features(d))
    metric.update(to_torch(a), real=True)
    metric.update(to_torch(b), real=False)
    assert_close(frechet_distance(a, b), metric.compute().item(), bound)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("d", [2, 16])
def test_precision_recall_density_and_coverage(k, d):
    """For the same number of neighbours, not counting the point itself."""
    real, generated = two_sets(200, 150, d)
    peer = prdc.compute_prdc(real, generated, nearest_k=k)
    found = overlap(real, generated, k)
    got = {name: getattr(found, name) for name in ("precision", "recall", "density", "coverage")}
    assert_close(got, {name: float(peer[name]) for name in got}, 1e-12)
    assert 0.05 < min(got.values()) < 0.95


def test_a_point_on_the_surface_of_a_ball_is_inside_by_the_paper_but_not_for_prdc():
    """Among integers every nearest neighbour is at distance 1, and so is 4 from 3."""
    real, generated = np.arange(4.0)[:, None], np.arange(4.0, 8.0)[:, None]
    names, found = ("precision", "recall", "density", "coverage"), overlap(real, generated, k=1)
    assert [getattr(found, name) for name in names] == [0.25] * 4
    peer = prdc.compute_prdc(real, generated, nearest_k=1)
    assert [peer[name] for name in names] == [0] * 4


@pytest.mark.filterwarnings("ignore:Metric `Kernel")
@pytest.mark.parametrize(("size", "subsets"), [(100, 1), (30, 5)])
def test_kernel_distance(size, subsets, monkeypatch):
    """Of all points, and over the same random subsets."""
    a, b = two_sets(100, 100, 16)
    random = np.random.default_rng(3)
    monkeypatch.setattr("torch.randperm", lambda n: torch.from_numpy(random.permutation(n)))
    metric = kid.KernelInceptionDistance(features(16), subsets=subsets, subset_size=size)
    metric.update(to_torch(a), real=True)
    metric.update(to_torch(b), real=False)
    expected = tuple(value.item() for value in metric.compute())
    assert_close(over_subsets(a, b, subsets=subsets, size=size, seed=3), expected, 1e-12)
    if size == 100:
        assert_close(kernel_distance(a, b), expected[0], 1e-12)


@pytest.mark.filterwarnings("ignore:Metric `InceptionScore", "ignore:std()")
@pytest.mark.parametrize("splits", [1, 5])
def test_inception_score(splits, monkeypatch):
    """In the order given; torchmetrics shuffles the images, and divides the variance by one part less."""
    logits = 2 * two_sets(100, 1, 10)[0]
    monkeypatch.setattr("torch.randperm", torch.arange)
    metric = inception.InceptionScore(features(10), splits=splits)
    metric.update(to_torch(logits))
    mean, deviation = (value.item() for value in metric.compute())
    probabilities = to_torch(logits).softmax(dim=1).numpy()
    if splits == 1:
        assert_close(inception_score(probabilities), mean, 1e-12)
    else:
        got, spread = over_splits(probabilities, splits)
        assert_close((got, spread * (splits / (splits - 1)) ** 0.5), (mean, deviation), 1e-12)
