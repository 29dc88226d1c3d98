"""Frechet distance against torchmetrics, precision and recall against prdc."""

import jax
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.manifolds import precision_recall
from reference.exact import to_torch

torch, prdc, fid = Lazy("torch"), Lazy("prdc"), Lazy("torchmetrics.image.fid")


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
def test_precision_and_recall(k, d):
    """For the same number of neighbours, not counting the point itself."""
    real, generated = two_sets(200, 150, d)
    peer = prdc.compute_prdc(real, generated, nearest_k=k)
    got = precision_recall(real, generated, k)
    assert_close(got, (peer["precision"], peer["recall"]), 0)
    assert 0.05 < min(got) < 0.95


def test_a_point_on_the_surface_of_a_ball_is_inside_by_the_paper_but_not_for_prdc():
    """Among integers every nearest neighbour is at distance 1, and so is 4 from 3."""
    real, generated = np.arange(4.0)[:, None], np.arange(4.0, 8.0)[:, None]
    assert precision_recall(real, generated, k=1) == (0.25, 0.25)
    peer = prdc.compute_prdc(real, generated, nearest_k=1)
    assert (peer["precision"], peer["recall"]) == (0, 0)
