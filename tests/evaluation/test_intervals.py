import numpy as np
import pytest
from conftest import assert_close, assert_expected
from scipy import stats

from jaxflow.evaluation.frechet import frechet_distance
from jaxflow.evaluation.intervals import bootstrap, jackknife, leaving_out


def mean_of(x):
    return lambda some: x[some].mean(axis=-1)


def left_out(figure, n, groups=20):
    return np.array([figure(kept) for kept in leaving_out(n, groups)])


def test_the_bootstrap_of_a_share_has_the_quantiles_of_the_binomial():
    """Resamples of 80 hits among 100 have binomially many."""
    hits = np.repeat([1.0, 0.0], [80, 20])
    interval = bootstrap(mean_of(hits), 100, resamples=20_000, level=0.9)
    expected = stats.binom.ppf([0.05, 0.95], 100, 0.8) / 100
    assert_close(np.array(interval), expected, 0.0051)  # a hit more or less
    assert bootstrap(mean_of(hits), 100, resamples=50, seed=3) == bootstrap(
        mean_of(hits), 100, resamples=50, seed=3
    )


def test_the_jackknife_of_a_mean_is_students_interval():
    x = np.random.default_rng(0).standard_normal(15)
    expected = stats.t.interval(0.95, 14, x.mean(), stats.sem(x))
    assert_close(tuple(jackknife(left_out(mean_of(x), 15), float(x.mean()))), expected, 1e-12)


def test_the_jackknife_of_groups_contains_the_mean_as_often_as_it_says():
    """Exactly, for normal numbers; in five groups."""
    x = np.random.default_rng(0).standard_normal((400, 20))
    intervals = [
        jackknife(left_out(mean_of(each), 20, groups=5), float(each.mean()), level=0.8) for each in x
    ]
    assert_expected([each.low < 0 < each.high for each in intervals], 0.8, 6)


def test_the_bootstrap_misses_a_frechet_distance_by_its_bias_and_the_jackknife_does_not():
    """Of equal distributions; `real` is fixed, as in a table, and the mean is over other samples."""
    random = np.random.default_rng(0)
    real, draw = random.standard_normal((100, 8)), lambda: random.standard_normal((100, 8))
    mean = np.mean([frechet_distance(draw(), real) for _ in range(100)])
    a = draw()
    boot = bootstrap(
        lambda rows: np.array([frechet_distance(a[some], real) for some in rows]), 100, resamples=100
    )
    figure = frechet_distance(a, real)
    jack = jackknife(left_out(lambda kept: frechet_distance(a[kept], real), 100), figure)
    assert boot.low > max(mean, figure)
    assert jack.low < mean < jack.high


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: bootstrap(mean_of(np.zeros(1)), 0), "n = 0: must be at least 1"),
        (lambda: bootstrap(mean_of(np.zeros(1)), 1, level=95.0), "level = 95.0: must be between 0 and 1"),
        (lambda: jackknife(np.zeros(1), 0.0), "number of left_out = 1: must be at least 2"),
    ],
)
def test_what_has_no_interval_is_rejected(call, says):
    with pytest.raises(ValueError, match=says):
        call()
