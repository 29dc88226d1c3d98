import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_moments

from jaxflow import paths, times


def test_uniform_grid():
    grid = times.uniform(7)
    assert grid.shape == (8,)
    assert grid[0] == 0
    assert grid[-1] == 1
    assert_close(jnp.diff(grid), jnp.full(7, 1 / 7), 1e-6)


def test_uniform_grid_hits_the_boundaries_of_intervals():
    """Every multiple of 0.05 in (0, 1) that is a time of a grid of up to 100 steps is hit exactly."""
    boundaries = [(n, k) for n in range(1, 101) for k in range(1, 20) if k * n % 20 == 0]
    grids = {n: np.asarray(times.uniform(n)) for n in range(1, 101)}
    missed = [(n, k) for n, k in boundaries if grids[n][k * n // 20] != np.float32(k / 20)]
    assert len(boundaries) == 260
    assert missed == []
    assert int(jnp.sum(times.uniform(10) >= 0.3)) == 8
    with jax.enable_x64(True):
        assert_close(times.uniform(10), np.arange(11) / 10, 0)


@pytest.mark.parametrize("n", [0, -3, 10**9, 10**18])
def test_the_number_of_steps_has_a_range(n):
    with pytest.raises(ValueError, match=f"n = {n}"):
        times.uniform(n)


def test_logit_normal_times_have_their_distribution(float64):
    u = jnp.asarray(np.random.default_rng(0).random(100_000), float)
    t = np.asarray(jax.jit(times.logit_normal_distribution(mean=0.5, deviation=0.8))(u)[0])
    assert_moments(np.log(t) - np.log1p(-t), 0.5, 0.8**2, errors=6)
    assert jnp.all(jnp.isfinite(times.logit_normal_distribution()(jnp.array([0.0]))[0]))


GRIDS = {
    "uniform": times.uniform,
    "shifted": lambda n: times.shifted(n, 3.0),
    "cosine": times.cosine,
    "karras": lambda n: times.karras(n, paths.Linear()),
    "karras_cosine": lambda n: times.karras(n, paths.Cosine()),
    "exponential": lambda n: times.exponential(n, paths.Linear()),
    "beta_quantiles": times.beta_quantiles,
}


@pytest.mark.parametrize("name", GRIDS)
def test_a_grid_of_concrete_numbers_is_concrete_inside_jit(name):
    assert jax.jit(lambda: isinstance(GRIDS[name](3), jax.core.Tracer))() == False  # noqa: E712


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("name", GRIDS)
@pytest.mark.parametrize("n", [1, 2, 7, 50])
def test_every_grid_increases_from_noise_to_data(name, n):
    grid = GRIDS[name](n)
    assert grid.shape == (n + 1,)
    assert_close(grid[jnp.array([0, -1])], jnp.array([0.0, 1.0]), 0)
    assert jnp.all(jnp.diff(grid) > 0)


def test_shift_multiplies_the_ratio_of_noise_to_data(float64):
    t, s = times.uniform(10)[1:-1], times.shifted(10, 3.0)[1:-1]
    assert_close((1 - s) / s, 3 * (1 - t) / t, 1e-6)


def test_karras_levels_are_uniform_in_their_seventh_root(float64):
    grid = times.karras(9, paths.VariancePreserving())[1:-1]
    path = paths.VariancePreserving()
    levels = (path.beta(grid) / path.alpha(grid)) ** (1 / 7)
    assert_close(jnp.diff(levels), jnp.full(7, (0.002 ** (1 / 7) - 80 ** (1 / 7)) / 8), 1e-5)


def test_exponential_levels_are_uniform_in_their_logarithm(float64):
    path = paths.VariancePreserving()
    grid = times.exponential(9, path)[1:-1]
    levels = jnp.log(path.beta(grid) / path.alpha(grid))
    assert_close(jnp.diff(levels), jnp.full(7, np.log(0.002 / 80) / 8), 1e-9)


def test_quantiles_of_a_beta_distribution_are_equally_likely(float64):
    """For a = 2 and b = 1 the distribution function is t^2, and for a = b = 1 / 2 the grid is `cosine`."""
    assert_close(times.beta_quantiles(9, 2.0, 1.0), jnp.sqrt(times.uniform(9)), 1e-12)
    assert_close(times.beta_quantiles(9, 0.5, 0.5), times.cosine(9), 1e-12)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: times.exponential(4, paths.Linear(), sigma_min=2.0, sigma_max=1.0), "sigma_min = 2"),
        (lambda: times.beta_quantiles(4, 0.6, 0.0), "b = 0"),
        (lambda: times.shifted(4, 0.0), "shift = 0"),
        (lambda: times.karras(4, paths.Linear(), sigma_min=2.0, sigma_max=1.0), "sigma_min = 2"),
        (lambda: times.karras(4, paths.Linear(), rho=0.0), "rho = 0"),
        (lambda: times.mode_distribution(3.0), "scale = 3"),
        (lambda: times.logit_normal_distribution(float("nan")), "mean = nan"),
        (lambda: times.logit_normal_distribution(0.0, 0.0), "deviation = 0"),
        (lambda: times.grid(0), "times = 0"),
        (lambda: times.grid(4.0), "times has the shape"),
    ],
)
def test_impossible_numbers_are_rejected(make, says):
    with pytest.raises(ValueError, match=says):
        make()


def test_unbiased_weights_are_one_over_the_density(float64):
    """Against a histogram of the times."""
    u = (jnp.arange(200_000.0) + 0.5) / 200_000
    t, weight = times.mode_distribution(1.29, unbiased=True)(u)
    counts, edges = np.histogram(t, bins=50, range=(0.0, 1.0))
    weights, _ = np.histogram(t, bins=edges, weights=weight)
    density = counts / (len(u) / 50)
    assert_close(weights / counts * density, np.ones(50), 1e-3)


def test_stratified_times_are_one_per_stratum():
    u = jax.random.uniform(jax.random.key(0), (100,))
    t, _ = times.uniform_distribution(stratified=True)(u)
    assert_close(jnp.floor(t * 100), jnp.arange(100.0), 0)
