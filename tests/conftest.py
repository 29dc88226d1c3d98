"""All tests run on four CPU devices, with strict dtype promotion and without rank promotion.

    pytest --requirements

ends with each requirement of docs/requirements.md, the tests marked `requirement("R7")` with it, their
largest measured error and its bound; then each statistical test, how often it would fail by chance under
a new seed, and the smallest difference it detects.
"""

import functools
import gc
import os
import re
import shutil
import tempfile
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from math import erfc, prod
from pathlib import Path
from statistics import NormalDist
from typing import NamedTuple

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from filelock import FileLock
from jax._src.interpreters import mlir

# Most tests spend longer compiling than computing; scripts that they start inherit these settings.
os.environ["JAX_DISABLE_MOST_OPTIMIZATIONS"] = "true"
FLAGS = "--xla_cpu_parallel_codegen_split_count=1"  # a fifth faster than in parts, which other cores compile
if jax.__version_info__ < (0, 11):
    FLAGS += " --xla_cpu_use_fusion_emitters=false"  # the older loop emitter compiles twice as fast
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {FLAGS}"
jax.config.update("jax_platforms", os.environ.get("JAX_PLATFORMS", "cpu"))
jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")

# JAX makes an MLIR context for each program, which takes a tenth of these tests' time; one serves them all,
# but for programs compiled while another is lowered, whose modules would be nested in its module.
new_context, shared_context = mlir.make_ir_context, functools.cache(mlir.make_ir_context)
mlir.make_ir_context = lambda: new_context() if mlir.ir.Context.current else shared_context()

# All processes of a session, scripts too, share compiled programs where `jaxflow/runs/cache.py` keeps them.
if "PYTEST_XDIST_WORKER" not in os.environ:
    CACHE = tempfile.TemporaryDirectory()
    os.environ["XDG_CACHE_HOME"] = CACHE.name
jax.config.update("jax_compilation_cache_dir", f"{os.environ['XDG_CACHE_HOME']}/jaxflow/programs")

from jaxflow import mixtures, paths  # noqa: E402

REQUIREMENTS = Path(__file__).parents[1] / "docs" / "requirements.md"

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


@pytest.fixture
def float64():
    with jax.enable_x64(True):
        yield


@pytest.fixture
def standard_promotion():
    """For tests that run optax, whose schedules multiply floats by integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): a folder filled by make(folder), once for all test processes. Do not write to it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def folder(name, make):
        place, done = root / name, root / f"{name}.done"
        with FileLock(root / f"{name}.lock"):
            if not done.exists():
                shutil.rmtree(place, ignore_errors=True)  # of a process whose make failed
                place.mkdir()
                make(place)
                done.touch()
        return place

    return folder


@pytest.fixture(scope="session")
def data_dir(once):
    """A folder with the data set `digits`, prepared once for all test processes."""
    from jaxflow.data.datasets import open_dataset  # which imports TFDS

    return str(once("data", lambda place: open_dataset("digits", "train", place)))


@pytest.fixture(scope="session")
def unbroken(once, data_dir):
    """The folder of a run of twelve steps that was never interrupted; do not write to it."""
    import small_digits  # which imports the presets

    return once("unbroken", lambda place: small_digits.train(place, data_dir))


class Lazy:
    """A package imported on first use: all test processes collect this file, and few run its tests."""

    def __init__(self, name):
        self._name = name

    def __getattr__(self, attribute):
        if attribute.startswith("_"):  # asked for by pytest, of every name in a module
            raise AttributeError(attribute)
        return getattr(import_module(self._name), attribute)


def normal(*shape, seed=0):
    """Standard normal numbers, float64 under the fixture of that name; by NumPy, which compiles nothing."""
    return jax.device_put(np.random.default_rng(seed).standard_normal(shape))


def linspace(start, stop, n):
    """`jnp.linspace` by NumPy."""
    return jax.device_put(np.linspace(start, stop, n))


def by_path(f, *arrays):
    """f(path, *arrays) for each path, by name.

    Not compiled as a whole: formulas on the mixture take long to compile, while most of their operations
    are the same for all paths and tests of a file, and compile once.
    """
    return {name: f(path, *arrays) for name, path in PATHS.items()}


def by_path_compiled(f, *arrays):
    """`by_path` in one program, for short formulas and for loops."""
    return jax.jit(lambda *arrays: by_path(f, *arrays))(*arrays)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Tangents:
    """The lines that touch a path at each of the times t: conversions there depend on nothing else of it.

    A batch may be the examples several times over, as guidance makes it.
    """

    t: jax.Array
    at: paths.Coefficients

    def alpha(self, t):
        return self._line(self.at.alpha, self.at.d_alpha, t)

    def beta(self, t):
        return self._line(self.at.beta, self.at.d_beta, t)

    def _line(self, value, slope, t):
        value, slope, touched = (jnp.resize(v, t.shape) for v in (value, slope, self.t))
        return value + slope * (t - touched)


def on_all_paths(f, t, *mapped):
    """f(tangents, *mapped) for each path of `PATHS`, which is the first axis: one program for all."""
    coefficients = by_path_compiled(paths.coefficients, t).values()
    stacked = jax.tree.map(lambda *of_paths: np.stack(of_paths), *coefficients)
    return jax.jit(jax.vmap(lambda at, *mapped: f(Tangents(t, at), *mapped)))(stacked, *mapped)


def assert_pairs(pairs, bound):
    """`assert_close` for pairs (actual, expected) by name; a failure names the first that differs."""
    assert_close(*({name: pair[i] for name, pair in pairs.items()} for i in range(2)), bound)


@contextmanager
def compiling_nothing():
    """Fails if XLA compiles anything in the block."""
    seen = []
    listener = lambda name, _, **__: seen.append(name)  # noqa: E731
    jax.monitoring.register_event_duration_secs_listener(listener)
    try:
        yield
    finally:
        jax.monitoring.unregister_event_duration_listener(listener)
    assert not [name for name in seen if name.endswith("backend_compile_duration")]


def three_components() -> mixtures.Mixture:
    """Three labelled components in two dimensions with distinct covariances."""
    return mixtures.Mixture(
        weights=jnp.array([0.5, 0.3, 0.2]),
        means=jnp.array([[1.0, 0.0], [-1.0, 1.0], [0.5, -1.5]]),
        covariances=jnp.array(
            [[[0.3, 0.1], [0.1, 0.2]], [[0.5, -0.2], [-0.2, 0.4]], [[0.1, 0.0], [0.0, 0.6]]]
        ),
    )


def disturbed(params, size=0.1):
    """Parameters perturbed away from their zero initialisation; by NumPy, which compiles nothing."""
    random = np.random.default_rng(2)
    noise = lambda leaf: (size * random.standard_normal(leaf.shape)).astype(leaf.dtype)  # noqa: E731
    return jax.tree.map(lambda leaf: jax.device_put(np.asarray(leaf) + noise(leaf)), params)


def random_params(module, *inputs, size=0.2):
    """Random parameters without compiling an initialisation: unit gains, scales near 1, biases of `size`."""
    random = np.random.default_rng(2)

    def draw(path, leaf):
        deviation = size if leaf.ndim < 2 else prod(leaf.shape[:-1]) ** -0.5
        mean = float(path[-1].key == "scale")
        return jax.device_put((mean + deviation * random.standard_normal(leaf.shape)).astype(leaf.dtype))

    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)["params"]
    return jax.tree_util.tree_map_with_path(draw, shapes)


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
    """Measurements travel in the test's report, also between processes."""
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
    """A number that must be small, such as a residual or a distance."""
    record("measured", (float(value), float(bound)))
    assert float(value) <= bound


def assert_expected(samples, expected, errors):
    """The mean of independent samples (n, ...) is within `errors` standard errors of the expectation."""
    samples, expected = np.asarray(samples, float), np.asarray(expected, float)
    standard_error = samples.std(axis=0, ddof=1) / len(samples) ** 0.5
    z = float(np.max(np.abs(samples.mean(axis=0) - expected) / standard_error))
    record("measured", (z, float(errors)))
    statistic = (standard_error.size, len(samples), float(errors), float(np.max(standard_error)))
    record("statistic", statistic)
    assert z <= errors, f"mean {samples.mean(axis=0)}, expected {expected}, standard error {standard_error}"


def assert_moments(x, mean, variance, errors):
    """A sample (n,) has this mean, and this variance as its mean square about it."""
    assert_expected(x, mean, errors)
    assert_expected((np.asarray(x) - mean) ** 2, variance, errors)


def pytest_addoption(parser):
    parser.addoption(
        "--requirements", action="store_true", help="print what was measured for each requirement"
    )


def pytest_collection_modifyitems(items):
    """Miniature runs come first: they take longest, and short files then balance the two processes."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish():
    """What is imported by now stays: the garbage collector need not look at it again and again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


@pytest.hookimpl(tryfirst=True)  # before module fixtures compile
def pytest_runtest_setup(item):
    """XLA skips most optimisations, except in tests marked `optimized`, and everything compiled is cached."""
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)  # scripts have raised it
    jax.config.update("jax_disable_most_optimizations", item.get_closest_marker("optimized") is None)
    for mark in item.iter_markers("requirement"):
        item.user_properties.extend(("requirement", name) for name in mark.args)


def recorded(report, kind) -> list:
    return [value for name, value in report.user_properties if name == kind]


def pytest_terminal_summary(terminalreporter):
    if not terminalreporter.config.getoption("--requirements"):
        return
    stats = terminalreporter.stats
    reports = [report for state in ("passed", "failed", "error") for report in stats.get(state, [])]
    sentences = dict(re.findall(r"^- \*\*(R\d+)\*\* (.*)$", REQUIREMENTS.read_text(), re.M))
    requirements: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for report in reports:
        for name in recorded(report, "requirement"):
            requirements[name][report.nodeid.split("[")[0]].append(report)
    write = terminalreporter.write_line
    terminalreporter.section("requirements: largest error of each test, relative to 1 + |expected|")
    write(f"{'':5} {'test':<96} {'cases':>5} {'error':>9} {'bound':>9}")
    for name in sorted(requirements, key=lambda name: int(name[1:])):
        write(f"{name:5} {sentences.get(name, '')}")
        for test, cases in requirements[name].items():
            numbers = [Measured(*m) for report in cases for m in recorded(report, "measured")]
            # The comparison closest to failing; a bound of 0 means equality.
            worst = max(numbers, key=lambda m: m.error / m.bound if m.bound else m.error, default=None)
            figures = f"{worst.error:9.1e} {worst.bound:9.1e}" if worst else f"{'holds':>9} {'':9}"
            state = "" if all(report.passed for report in cases) else "  FAILED"
            write(f"{'':5} {test:<96} {len(cases):5} {figures}{state}")
    terminalreporter.section("statistical tests: false alarms under a new seed; detection at 95 %")
    write(f"{'test':<96} {'n':>7} {'errors':>6} {'false alarm':>11} {'detects':>9}")
    total = 0.0
    for report in reports:
        numbers = [Statistic(*s) for s in recorded(report, "statistic")]
        if not numbers:
            continue
        chance = sum(s.count * erfc(s.bound / 2**0.5) for s in numbers)
        total += chance
        first = numbers[0]
        detects = max((s.bound + NormalDist().inv_cdf(0.95)) * s.standard_error for s in numbers)
        write(f"{report.nodeid:<96} {first.n:7} {first.bound:6.1f} {chance:11.1e} {detects:9.2g}")
    write(f"{'any of them':<96} {'':7} {'':6} {total:11.1e}")
