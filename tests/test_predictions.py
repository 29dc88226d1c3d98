import inspect
from itertools import product
from typing import get_args

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import (
    assert_close,
    assert_pairs,
    by_path,
    linspace,
    normal,
    on_all_paths,
    three_components,
)

from jaxflow import mixtures, paths, predictions

KINDS = get_args(predictions.Prediction)


def exact(path, x, t):
    """Every kind of prediction, exactly, for the mixture."""
    mixture = three_components()
    c = paths.coefficients(path, t)
    score, data = (f(mixture, path, x, t) for f in (mixtures.score, mixtures.denoise))
    noise = -c.beta[:, None] * score
    return {
        "velocity": mixtures.velocity(mixture, path, x, t),
        "score": score,
        "noise": noise,
        "data": data,
        "v": c.alpha[:, None] * noise - c.beta[:, None] * data,
    }


def converted(path, x, t, values, several=False):
    """From each kind to each, by the name of both; `several` points x and values along a first axis."""

    def convert(source, target):
        one = lambda x, value: predictions.convert(path, x, t, value, source=source, target=target)  # noqa: E731
        return (jax.vmap(one) if several else one)(x, values[source])

    return {f"{source} to {target}": convert(source, target) for source, target in product(KINDS, KINDS)}


@pytest.mark.requirement("R10")
def test_every_conversion_on_the_oracle(float64):
    def both(path, x, t):
        values = exact(path, x, t)
        return converted(path, x, t, values), {
            f"{source} to {target}": values[target] for source, target in product(KINDS, KINDS)
        }

    assert_pairs(by_path(both, normal(16, 2), linspace(0.02, 0.98, 16)), 1e-10)


@pytest.mark.requirement("R10")
def test_float32():
    """Relative to the error that one rounding of the source makes in the target."""
    points = np.asarray(normal(64, 2))
    t = linspace(0.0012, 0.9988, 64)  # between the levels of the table, where it has slopes

    def wide(path):
        x, t = jnp.asarray(points, float), path.t
        values, zero = exact(path, x, t), jnp.zeros_like(x)
        terms = {kind: jnp.stack([jnp.abs(value), zero]) for kind, value in values.items()}
        parts = converted(path, jnp.stack([zero, jnp.abs(x)]), t, terms, several=True)
        return values, jax.tree.map(lambda part: jnp.abs(part).sum(axis=0), parts)

    def errors(path, values, terms):
        found = converted(path, jnp.asarray(points), path.t, values)
        return {name: (found[name] - values[name.split(" to ")[1]]) / (1 + terms[name]) for name in found}

    with jax.enable_x64(True):
        exactly = on_all_paths(wide, jnp.asarray(np.asarray(t), float))
    rounded = jax.tree.map(lambda value: np.asarray(value, np.float32), exactly)
    error = on_all_paths(errors, t, *rounded)
    assert_close(error, jax.tree.map(np.zeros_like, error), 1e-5)


AT_NOISE = [(source, target) for source in ("velocity", "data", "v") for target in KINDS]
AT_DATA = [(source, target) for source in ("velocity", "v") for target in ("velocity", "data", "noise", "v")]
AT_DATA += [("score", "data"), ("noise", "data")]


@pytest.mark.parametrize(("end", "pairs"), [(0.0, AT_NOISE), (1.0, AT_DATA)], ids=["noise", "data"])
@pytest.mark.parametrize("path", [paths.Linear(), paths.Cosine()], ids=["linear", "cosine"])
@pytest.mark.requirement("R10")
def test_exact_at_the_ends(path, end, pairs, float64):
    def both(x):
        t = jnp.full(8, end)
        values = exact(path, x, t)
        convert = lambda source, target: predictions.convert(  # noqa: E731
            path, x, t, values[source], source=source, target=target
        )
        return {f"{s} to {target}": (convert(s, target), values[target]) for s, target in pairs}

    assert_pairs(jax.jit(both)(normal(8, 2)), 1e-10)


def test_infinite_slope_of_beta_at_the_data_end():
    x = jnp.array([[0.7]])
    data = predictions.convert(
        paths.SquareRoot(), x, jnp.ones(1), jnp.array([[3.0]]), source="velocity", target="data"
    )
    assert_close(data, x, 1e-6)


@pytest.mark.requirement("R10")
def test_bfloat16_values_keep_time_in_float32():
    x = jnp.array([[1.0]], jnp.bfloat16)
    t = jnp.array([1 - 2.0**-12])  # 1 in bfloat16
    u = jnp.array([[1024.0]], jnp.bfloat16)
    data = predictions.convert(paths.Linear(), x, t, u, source="velocity", target="data")
    assert data.dtype == jnp.bfloat16
    assert_close(data.astype(jnp.float32), jnp.array([[1.25]]), 1e-2)  # x + (1 - t) u


@pytest.mark.requirement("R35")
def test_guidance_commutes_with_every_conversion(float64):
    x, u, v = (normal(16, 2, seed=i) for i in range(3))

    def both(path):
        values = jnp.stack([u, v, -2 * u + 3 * v])
        found = converted(path, jnp.stack([x] * 3), path.t, dict.fromkeys(KINDS, values), several=True)
        return tuple(jax.tree.map(f, found) for f in (lambda f: f[2], lambda f: -2 * f[0] + 3 * f[1]))

    assert_close(*on_all_paths(both, linspace(0.05, 0.95, 16)), 1e-9)


def test_an_unknown_kind_is_rejected():
    x, t = jnp.zeros((1, 1)), jnp.zeros(1)
    unchecked = inspect.unwrap(predictions.convert)  # without the check of its annotations
    with pytest.raises(ValueError, match="target = 'energy': must be one of velocity"):
        unchecked(paths.Linear(), x, t, x, source="velocity", target="energy")


@pytest.mark.requirement("R11")
def test_an_error_grows_by_the_gain(float64):
    x, value, error = (normal(16, 2, seed=i) for i in range(3))

    def both(path):
        values = jnp.stack([value + error, value])
        found = converted(path, jnp.stack([x] * 2), path.t, dict.fromkeys(KINDS, values), several=True)
        gain = lambda source, target: predictions.gain(path, path.t, source=source, target=target)  # noqa: E731
        difference = jax.tree.map(lambda f: f[0] - f[1], found)
        return difference, {name: gain(*name.split(" to "))[:, None] * error for name in difference}

    assert_close(*on_all_paths(both, linspace(0.05, 0.95, 16)), 1e-9)


@pytest.mark.requirement("R11")
def test_gains_are_those_of_the_chapter(float64):
    """|u_th - u|^2 = b^2 |s_th - s|^2 = (b / beta)^2 |noise_th - noise|^2."""

    def both(path, t):
        alpha, beta, d_alpha, d_beta = paths.coefficients(path, t)
        b = (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        squares = {"score": b**2, "noise": (b / beta) ** 2, "data": (b * alpha / beta**2) ** 2}
        gain = lambda source: predictions.gain(path, t, source=source, target="velocity")  # noqa: E731
        return {source: gain(source) ** 2 for source in squares}, squares

    assert_pairs(by_path(both, linspace(0.05, 0.95, 16)), 1e-11)


@pytest.mark.requirement("R14")
def test_a_bridge_has_no_score():
    x, t = jnp.zeros((1, 1)), jnp.zeros(1)
    with pytest.raises(TypeError, match="Gaussian"):
        predictions.convert(paths.Straight(), x, t, x, source="velocity", target="score")


def test_weight_of_the_score_at_the_data_end(float64):
    """beta' beta has a limit there even where beta' has none: b = -(beta^2)' / 2."""
    weights = by_path(predictions.score_weight, jnp.array([1.0, 1 - 1e-9]))
    assert_pairs(weights, 1e-7)


VANISHING = paths.from_functions(lambda t: t**2, lambda t: 1 - t**2)  # whose slopes are 0 at t = 0


@pytest.mark.requirement("R10")
def test_where_no_slope_is_left_the_noise_is_x():
    """So are its derivatives; the data are undetermined there, and nan."""
    x, t = jnp.array([[2.0], [-1.0]]), jnp.array([0.0, 0.5])
    convert = lambda x, u, target: predictions.convert(VANISHING, x, t, u, source="velocity", target=target)  # noqa: E731
    law = mixtures.Mixture(jnp.ones(1), jnp.ones((1, 1)), jnp.full((1, 1, 1), 0.5))
    velocity, score = (f(law, VANISHING, x, t) for f in (mixtures.velocity, mixtures.score))
    noise = convert(x, velocity, "noise")
    assert_close(noise[0], x[0], 0)
    assert_close(convert(x, velocity, "score")[0], -x[0], 0)
    assert_close(noise, -VANISHING.beta(t)[:, None] * score, 1e-5)
    slopes = jax.grad(lambda *at: convert(*at, "noise").sum(), (0, 1))(x, velocity)
    assert_close((slopes[0][0], slopes[1][0]), (jnp.ones(1), jnp.zeros(1)), 0)
    assert jnp.isnan(convert(x, velocity, "data")[0, 0])


@pytest.mark.parametrize("t", [0.25, 1, jnp.array(0.25)])
@pytest.mark.parametrize("source", ["velocity", "v"])
def test_a_single_time_serves_the_whole_batch(t, source):
    x, value = normal(2, 4, 3)
    each = jnp.full(4, t, jnp.float32)
    of = lambda t: predictions.parts(paths.Cosine(), x, t, value, source=source)  # noqa: E731
    assert_close(of(t), of(each), 0)
    convert = lambda t: predictions.convert(paths.Cosine(), x, t, value, source=source, target="data")  # noqa: E731
    assert_close(convert(t), convert(each), 0)
    gain = lambda t: predictions.gain(paths.Cosine(), t, source=source, target="data")  # noqa: E731
    assert_close(gain(t), gain(each)[0], 0)


def test_v_is_proportional_to_the_velocity_of_the_cosine_path(float64):
    """alpha noise - beta data = -(2 / pi) u."""
    x, value = normal(2, 4, 3)
    t = jnp.array([0.0, 0.3, 0.8, 1.0])
    v = predictions.convert(paths.Cosine(), x, t, value, source="velocity", target="v")
    assert_close(v, -2 / jnp.pi * value, 1e-12)
