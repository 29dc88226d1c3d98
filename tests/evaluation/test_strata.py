import numpy as np
import pytest

from jaxflow.evaluation.strata import allocate, half, sample_like, spread

IMBALANCES = [(900, 100), (990, 10), (500, 300, 150, 49, 1), (100,) * 10, (1, 1), (7,)]


@pytest.mark.parametrize("counts", IMBALANCES)
@pytest.mark.parametrize("n", [1, 20, 137, 1000])
def test_an_allocation_is_proportional_and_has_every_class(counts, n):
    given = allocate(np.array(counts), n)
    assert given.sum() == max(n, len(counts))
    assert given.min() >= 1
    quota = n * np.array(counts) / sum(counts)
    if quota.min() >= 1:
        assert np.abs(given - quota).max() < 1


def test_a_class_without_members_still_gets_one():
    assert allocate(np.array([50, 0, 50]), 10).min() == 1


@pytest.mark.parametrize("counts", IMBALANCES)
def test_every_stretch_of_an_order_has_the_frequencies_of_the_whole(counts):
    y = np.repeat(np.arange(len(counts)), counts)
    order = spread(y, seed=0)
    assert sorted(order) == list(range(len(y)))
    for size in (len(y) // 2, len(y) // 3, len(y) // 7):
        for start in range(0, len(y) - size, max(size, 1)):
            found = np.bincount(y[order[start : start + size]], minlength=len(counts))
            assert np.abs(found - size * np.array(counts) / len(y)).max() <= 2


def test_orders_are_random_and_a_function_of_the_seed():
    y = np.zeros(100, int)
    assert (spread(y, 0) == spread(y, 0)).all()
    assert (spread(y, 0) != spread(y, 1)).any()
    assert spread(y, 0)[:50].max() > 50


@pytest.mark.parametrize("counts", IMBALANCES)
def test_half_of_each_class_is_drawn(counts):
    y = np.repeat(np.arange(len(counts)), counts)
    drawn = half(y, seed=0)
    assert np.bincount(y[drawn], minlength=len(counts)).tolist() == [count // 2 for count in counts]
    assert len(set(drawn)) == len(drawn)


def test_a_sample_of_a_sorted_folder_has_all_classes():
    y = np.repeat(np.arange(5), 1000)
    drawn = sample_like(y, y, 300, seed=0)
    assert np.bincount(y[drawn]).tolist() == [60] * 5


@pytest.mark.parametrize(
    ("members", "like"), [((900, 100), (1, 1)), ((50, 50), (99, 1)), ((30, 0, 30), (1, 1, 1))]
)
def test_a_sample_has_the_frequencies_of_another_set_up_to_a_twentieth(members, like):
    y, other = (np.repeat(np.arange(len(counts)), counts) for counts in (members, like))
    drawn = y[sample_like(y, other, 10**9, seed=0)]
    wanted = np.where(members, like, 0) / np.where(members, like, 0).sum()
    short = np.maximum(wanted * len(drawn) - np.bincount(drawn, minlength=len(members)), 0).sum()
    assert len(drawn) >= 50
    assert short <= 0.05 * len(drawn) + 1
