"""Every test runs with four CPU devices, strict dtypes and no silent broadcasting of ranks.

    pytest --requirements

prints at its end a line for each requirement of the chapter: the tests that hold it (marked
`requirement("R7")`), their largest measured error and its bound; and a line for each statistical
test: how often it would fail by chance with another seed, and what difference it detects.
"""

import os
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import norm

# Most tests compile for longer than they compute; the scripts that they start inherit what is set here.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
if jax.__version_info__ < (0, 11):  # XLA's former emitter of loops, which compiles twice as fast
    os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_use_fusion_emitters=false"
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

from jaxflow import mixtures, paths  # noqa: E402

PATHS = {
    "linear": paths.Linear(),
    "cosine": paths.Cosine(),
    "square_root": paths.SquareRoot(),
    "variance_preserving": paths.VariancePreserving(),
    "ddpm": paths.DDPM(jnp.linspace(1e-4, 0.02, 1000)),
    "functions": paths.from_functions(lambda t: t**2, lambda t: 1 - t**2),
}


@pytest.fixture(params=PATHS.values(), ids=PATHS.keys())
def path(request):
    return request.param


@pytest.fixture(scope="module", autouse=True)
def _compile_fast(request):
    """XLA leaves out optimisations, but in files marked `optimized`."""
    unless = request.node.get_closest_marker("optimized")
    jax.config.update("jax_disable_most_optimizations", unless is None)


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """For what runs optax, whose schedules multiply floats by integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """Where data sets are prepared, once for all tests of a process."""
    return str(tmp_path_factory.mktemp("data"))


@contextmanager
def compiling_nothing():
    """Fails where XLA compiles anything inside."""
    seen = []
    listener = lambda name, _, **__: seen.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert not [name for name in seen if name.endswith("backend_compile_duration")]


def three_components() -> mixtures.Mixture:
    """Three labelled components in two dimensions, no two covariances alike."""
    return mixtures.Mixture(
        weights=jnp.array([0.5, 0.3, 0.2]),
        means=jnp.array([[1.0, 0.0], [-1.0, 1.0], [0.5, -1.5]]),
        covariances=jnp.array(
            [[[0.3, 0.1], [0.1, 0.2]], [[0.5, -0.2], [-0.2, 0.4]], [[0.1, 0.0], [0.0, 0.6]]]
        ),
    )


def disturbed(params, size=0.1):
    """Parameters away from the zeros of their initialisation."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(2), len(leaves))
    pairs = zip(leaves, keys, strict=True)
    return jax.tree.unflatten(tree, [leaf + size * jax.random.normal(key, leaf.shape) for leaf, key in pairs])


class Measured(NamedTuple):
    """One comparison of a test."""

    error: float
    bound: float


class Statistic(NamedTuple):
    """One statistical comparison: `count` numbers, each within `bound` standard errors."""

    count: int
    n: int
    bound: float
    standard_error: float


@pytest.fixture(autouse=True)
def _recording(record_property):
    """What a test records travels in its report, also from one process to another."""
    global record
    record = record_property


def assert_close(actual, expected, bound):
    """|actual - expected| <= bound (1 + |expected|) for every number of a tree; nan is never close."""
    chex.assert_trees_all_equal_structs(actual, expected)
    pairs = zip(*map(jax.tree.leaves, (actual, expected)), strict=True)
    error = float(np.max([_error(np.asarray(a), np.asarray(e)) for a, e in pairs]))  # nan wins
    record("measured", (error, float(bound)))
    if not error <= bound:
        chex.assert_trees_all_close(actual, expected, atol=bound, rtol=bound)
        raise AssertionError(f"error {error} over the bound {bound}")


def _error(actual, expected) -> float:
    assert actual.shape == expected.shape, f"shapes {actual.shape} and {expected.shape}"
    with np.errstate(invalid="ignore"):
        difference = np.where(actual == expected, 0.0, np.abs(actual.astype(float) - expected.astype(float)))
        return float(np.max(difference / (1 + np.abs(expected.astype(float))), initial=0.0))


def assert_below(value, bound):
    """A number that has to be small, such as a residual or a distance."""
    record("measured", (float(value), float(bound)))
    assert float(value) <= bound


def assert_expected(samples, expected, errors):
    """The mean of independent samples (n, ...) lies within so many standard errors of what is expected."""
    samples, expected = np.asarray(samples, float), np.asarray(expected, float)
    standard_error = samples.std(axis=0, ddof=1) / len(samples) ** 0.5
    z = float(np.max(np.abs(samples.mean(axis=0) - expected) / standard_error))
    record("measured", (z, float(errors)))
    statistic = (standard_error.size, len(samples), float(errors), float(np.max(standard_error)))
    record("statistic", statistic)
    assert z <= errors, f"mean {samples.mean(axis=0)}, expected {expected}, standard error {standard_error}"


def assert_moments(x, mean, variance, errors):
    """A sample (n,) has its mean, and its variance as the mean square about that mean."""
    assert_expected(x, mean, errors)
    assert_expected((np.asarray(x) - mean) ** 2, variance, errors)


def pytest_configure(config):
    """What scripts keep for later runs, compiled programs and embeddings, is kept for these tests alone."""
    if not hasattr(config, "workerinput"):
        config.cache_home = tempfile.TemporaryDirectory()
        os.environ["XDG_CACHE_HOME"] = config.cache_home.name


def pytest_addoption(parser):
    parser.addoption(
        "--requirements", action="store_true", help="print what was measured for each requirement"
    )


def pytest_runtest_setup(item):
    for mark in item.iter_markers("requirement"):
        item.user_properties.extend(("requirement", name) for name in mark.args)


def recorded(report, kind) -> list:
    return [value for name, value in report.user_properties if name == kind]


def pytest_terminal_summary(terminalreporter):
    if not terminalreporter.config.getoption("--requirements"):
        return
    stats = terminalreporter.stats
    reports = [report for state in ("passed", "failed", "error") for report in stats.get(state, [])]
    requirements: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for name in recorded(report, "requirement"):
            requirements[name][report.nodeid.split("[")[0]].append(report)
    write = terminalreporter.write_line
    terminalreporter.section("requirements: largest error of each test, relative to 1 + |expected|")
    write(f"{'':5} {'test':<96} {'cases':>5} {'error':>9} {'bound':>9}")
    for name in sorted(requirements, key=lambda name: int(name[1:])):
        for test, cases in requirements[name].items():
            numbers = [Measured(*m) for report in cases for m in recorded(report, "measured")]
            # The comparison that came closest to failing; a bound of 0 asks for equality.
            worst = max(numbers, key=lambda m: m.error / m.bound if m.bound else m.error, default=None)
            figures = f"{worst.error:9.1e} {worst.bound:9.1e}" if worst else f"{'holds':>9} {'':9}"
            state = "" if all(report.passed for report in cases) else "  FAILED"
            write(f"{name:5} {test:<96} {len(cases):5} {figures}{state}")
    terminalreporter.section("statistical tests: by chance, with a new seed; seen with probability 0.95")
    write(f"{'test':<96} {'n':>7} {'errors':>6} {'false alarm':>11} {'detects':>9}")
    total = 0.0
    for report in reports:
        numbers = [Statistic(*s) for s in recorded(report, "statistic")]
        if not numbers:
            continue
        chance = sum(s.count * 2 * norm.sf(s.bound) for s in numbers)
        total += chance
        first = numbers[0]
        detects = max((s.bound + norm.ppf(0.95)) * s.standard_error for s in numbers)
        write(f"{report.nodeid:<96} {first.n:7} {first.bound:6.1f} {chance:11.1e} {detects:9.2g}")
    write(f"{'any of them':<96} {'':7} {'':6} {total:11.1e}")
