import numpy as np
import pytest
from conftest import assert_close, assert_expected

from jaxflow.evaluation import kernel
from jaxflow.evaluation.kernel import kernel_distance


def normal(n, d=3, seed=0):
    return np.random.default_rng(seed).standard_normal((n, d))


def test_the_estimate_averages_the_kernel_over_pairs_of_different_points():
    a, b = normal(6), normal(4, seed=1) + 0.5
    k = lambda x, y: (sum(x * y) / 3 + 1) ** 3  # noqa: E731
    within = lambda s: np.mean([k(x, y) for i, x in enumerate(s) for j, y in enumerate(s) if i != j])  # noqa: E731
    assert_close(
        kernel_distance(a, b), within(a) + within(b) - 2 * np.mean([k(x, y) for x in a for y in b]), 1e-12
    )


def test_the_estimate_is_unbiased_for_sets_of_any_sizes():
    """N(0, 1) and N(1, 1): the expected kernels are 4 and 32 within, and 7 between."""
    random = np.random.default_rng(0)
    found = [
        kernel_distance(random.standard_normal((5, 1)), random.standard_normal((8, 1)) + 1)
        for _ in range(500)
    ]
    assert_expected(found, 4 + 32 - 2 * 7, 6)


def test_leaving_out_a_point_is_the_distance_without_it():
    a, b = normal(7), normal(5, seed=1) + 0.5
    left_out = kernel.left_out(a, b)
    assert_close(left_out, np.array([kernel_distance(np.delete(a, i, axis=0), b) for i in range(7)]), 1e-12)
    assert_close(float(left_out.mean()), kernel_distance(a, b), 1e-12)


def test_subsets_have_the_deviation_of_their_size_and_none_if_they_are_all():
    a, b = normal(60), normal(50, seed=1)
    mean, deviation = kernel.over_subsets(a[:50], b, subsets=3, size=50)
    assert_close((mean, deviation), (kernel_distance(a[:50], b), 0.0), 1e-12)
    few, many = (kernel.over_subsets(a, b, subsets=40, size=size)[1] for size in (8, 30))
    assert few > 2 * many
    assert kernel.over_subsets(a, b, size=8, seed=1) == kernel.over_subsets(a, b, size=8, seed=1)


@pytest.mark.parametrize("size", [1, 51])
def test_subsets_larger_than_a_set_are_rejected(size):
    with pytest.raises(ValueError, match=f"size = {size}: must be from 2 to 50"):
        kernel.over_subsets(normal(60), normal(50), size=size)
