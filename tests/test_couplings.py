"""Pairs of noise and data, against enumeration, sorting and the law of the noise."""

from itertools import permutations

import numpy as np
import pytest
from conftest import assert_close, assert_expected, normal

from jaxflow import couplings


def total(costs, permutation):
    return costs[np.arange(len(costs)), list(permutation)].sum()


@pytest.mark.parametrize("groups", [None, np.array([1, 0, 1, 1, 0])], ids=["all", "grouped"])
def test_no_permutation_costs_less(groups):
    """Among all 120, or among those that stay within the groups."""
    random = np.random.default_rng(0)
    for costs in random.standard_normal((20, 5, 5)):
        found = couplings.optimal(costs, groups)
        allowed = [p for p in permutations(range(5)) if groups is None or (groups[list(p)] == groups).all()]
        assert tuple(found) in allowed
        assert total(costs, found) == pytest.approx(min(total(costs, p) for p in allowed), abs=1e-12)


def test_the_cost_is_the_squared_distance_up_to_what_all_permutations_share():
    noise, data = normal(6, 2, 3), normal(6, 2, 3, seed=1)
    costs = np.asarray(couplings.costs(noise, data))
    distances = np.sum((np.asarray(data)[:, None] - np.asarray(noise)[None]) ** 2, axis=(2, 3))
    found = couplings.optimal(costs)
    assert (found != np.arange(6)).any()
    before, after = total(distances, range(6)), total(distances, found)
    assert_close(after - before, 2 * (total(costs, found) - total(costs, range(6))), 1e-5)
    assert after < before


def test_on_a_line_the_coupling_is_monotone():
    """And a permutation: the noise of the batch stays as it is."""
    noise, data = normal(50, 1), 3 * normal(50, 1, seed=1)
    found = couplings.optimal(np.asarray(couplings.costs(noise, data)))
    assert sorted(found) == list(range(50))
    order = np.argsort(np.asarray(data)[:, 0])
    assert (np.diff(np.asarray(noise)[found][order, 0]) > 0).all()


def test_given_a_class_the_noise_is_normal_if_it_was_paired_within_the_class():
    """For two classes at -1 and 1, mean and variance of y noise: 0 and 1 by class, and otherwise biased."""
    random = np.random.default_rng(0)
    by_class, ignoring = [], []
    for _ in range(400):
        y = random.choice([-1, 1], 16)
        data, noise = y + 0.5 * random.standard_normal(16), random.standard_normal(16)
        costs = -np.outer(data, noise)
        by_class.append(y * noise[couplings.optimal(costs, y)])
        ignoring.append(y * noise[couplings.optimal(costs)])
    assert_expected(np.mean(by_class, axis=1), 0.0, 6)
    assert_expected(np.mean(np.square(by_class), axis=1), 1.0, 6)
    assert np.mean(ignoring) > 0.5
