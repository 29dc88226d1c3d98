"""Frechet distance beside torchmetrics, precision and recall beside prdc."""

import jax
import numpy as np
import pytest
import torch
from conftest import assert_close
from prdc import compute_prdc
from torchmetrics.image.fid import FrechetInceptionDistance

from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.manifolds import precision_recall
from reference.exact import to_torch


def two_sets(n, m, d):
    """Of other means and covariances, correlated within."""
    a, b, mix = (
        np.asarray(jax.random.normal(jax.random.key(i), shape))
        for i, shape in enumerate([(n, d), (m, d), (d, d)])
    )
    return a, b @ (0.8 * np.eye(d) + 0.5 * mix / np.sqrt(d)) + 0.2


class _Features(torch.nn.Module):
    """A network of torchmetrics that hands on the features it is given."""

    def __init__(self, d):
        super().__init__()
        self.num_features = d

    def forward(self, x):
        return x


@pytest.mark.parametrize(
    ("n", "m", "d", "bound"), [(200, 150, 5, 1e-12), (500, 500, 64, 1e-11), (40, 30, 64, 1e-6)]
)
def test_frechet_distance(n, m, d, bound):
    """With fewer points than dimensions, roots of their eigenvalues that are 0 keep half of the digits."""
    a, b = two_sets(n, m, d)
    metric = FrechetInceptionDistance(_Features(d))
    metric.update(to_torch(a), real=True)
    metric.update(to_torch(b), real=False)
    assert_close(frechet_distance(a, b), metric.compute().item(), bound)


@pytest.mark.parametrize("k", [1, 3, 5])
@pytest.mark.parametrize("d", [2, 16])
def test_precision_and_recall(k, d):
    """The same number of neighbours, the point itself not counted."""
    real, generated = two_sets(200, 150, d)
    peer = compute_prdc(real, generated, nearest_k=k)
    got = precision_recall(real, generated, k)
    assert_close(got, (peer["precision"], peer["recall"]), 0)
    assert 0.05 < min(got) < 0.95


def test_a_point_on_the_surface_of_a_ball_is_in_it_by_the_paper_and_not_for_prdc():
    """On a line of integers every nearest neighbour is at distance 1: so is 4 of 3."""
    real, generated = np.arange(4.0)[:, None], np.arange(4.0, 8.0)[:, None]
    assert precision_recall(real, generated, k=1) == (0.25, 0.25)
    peer = compute_prdc(real, generated, nearest_k=1)
    assert (peer["precision"], peer["recall"]) == (0, 0)
