import inspect
from itertools import product
from typing import get_args

import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import mixtures, paths, predictions

KINDS = get_args(predictions.Prediction)


def exact(path, x, t):
    """Each kind of prediction on the mixture, where all are known."""
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


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.requirement("R10")
def test_every_conversion_on_the_oracle(path, source, float64):
    x = jax.random.normal(jax.random.key(0), (64, 2))
    t = jnp.linspace(0.02, 0.98, 64)
    values = exact(path, x, t)
    converted = {
        target: predictions.convert(path, x, t, values[source], source=source, target=target)
        for target in KINDS
    }
    assert_close(converted, values, 1e-10)


@pytest.mark.parametrize("source", KINDS)
@pytest.mark.requirement("R10")
def test_float32(path, source):
    """Relative to what an error of one rounding in the source becomes in the target."""
    x = jax.random.normal(jax.random.key(0), (64, 2))
    t = jnp.linspace(0.0012, 0.9988, 64)  # between the levels of the table, where it has slopes
    with jax.enable_x64(True):
        wide = x.astype(jnp.float64), t.astype(jnp.float64)
        values = exact(path, *wide)
        zero = jnp.zeros_like(wide[0])
    narrow = {name: value.astype(jnp.float32) for name, value in values.items()}
    for target in KINDS:
        with jax.enable_x64(True):
            from_value, from_x = (
                predictions.convert(path, place, wide[1], value, source=source, target=target)
                for place, value in ((zero, jnp.abs(values[source])), (jnp.abs(wide[0]), zero))
            )
            terms = jnp.abs(from_value) + jnp.abs(from_x)
        result = predictions.convert(path, x, t, narrow[source], source=source, target=target)
        error = (result - narrow[target]) / (1 + terms.astype(jnp.float32))
        assert_close(error, jnp.zeros_like(x), 1e-5)


AT_NOISE = [(source, target) for source in ("velocity", "data", "v") for target in KINDS]
AT_DATA = [(source, target) for source in ("velocity", "v") for target in ("velocity", "data", "noise", "v")]
AT_DATA += [("score", "data"), ("noise", "data")]


@pytest.mark.parametrize(
    ("end", "source", "target"),
    [(0.0, *pair) for pair in AT_NOISE] + [(1.0, *pair) for pair in AT_DATA],
)
@pytest.mark.parametrize("name", ["linear", "cosine"])
@pytest.mark.requirement("R10")
def test_exact_at_the_ends(name, end, source, target, float64):
    path = {"linear": paths.Linear(), "cosine": paths.Cosine()}[name]
    x, t = jax.random.normal(jax.random.key(0), (8, 2)), jnp.full(8, end)
    values = exact(path, x, t)
    converted = predictions.convert(path, x, t, values[source], source=source, target=target)
    assert_close(converted, values[target], 1e-10)


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
def test_guidance_commutes_with_every_conversion(path, float64):
    x = jax.random.normal(jax.random.key(0), (16, 2))
    t = jnp.linspace(0.05, 0.95, 16)
    u, v = jax.random.normal(jax.random.key(1), (2, 16, 2))
    for source, target in product(KINDS, KINDS):
        convert = lambda value: predictions.convert(path, x, t, value, source=source, target=target)  # noqa: B023, E731
        assert_close(convert(-2 * u + 3 * v), -2 * convert(u) + 3 * convert(v), 1e-9)


def test_unknown_kind_is_refused():
    x, t = jnp.zeros((1, 1)), jnp.zeros(1)
    unchecked = inspect.unwrap(predictions.convert)  # by the types of the annotations
    with pytest.raises(ValueError, match="target = 'energy': allowed are velocity"):
        unchecked(paths.Linear(), x, t, x, source="velocity", target="energy")


@pytest.mark.requirement("R11")
@pytest.mark.parametrize("source", KINDS)
def test_an_error_grows_by_the_gain(path, source, float64):
    x, value, error = jax.random.normal(jax.random.key(0), (3, 16, 2))
    t = jnp.linspace(0.05, 0.95, 16)
    for target in KINDS:
        convert = lambda value: predictions.convert(path, x, t, value, source=source, target=target)  # noqa: B023, E731
        gain = predictions.gain(path, t, source=source, target=target)
        assert_close(convert(value + error) - convert(value), gain[:, None] * error, 1e-9)


@pytest.mark.requirement("R11")
def test_gains_are_those_of_the_chapter(path, float64):
    """|u_th - u|^2 = b^2 |s_th - s|^2 = (b / beta)^2 |noise_th - noise|^2."""
    t = jnp.linspace(0.05, 0.95, 16)
    alpha, beta, d_alpha, d_beta = paths.coefficients(path, t)
    b = (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
    gain = lambda source: predictions.gain(path, t, source=source, target="velocity") ** 2  # noqa: E731
    for source, square in (("score", b**2), ("noise", (b / beta) ** 2), ("data", (b * alpha / beta**2) ** 2)):
        assert_close(gain(source), square, 1e-11)


@pytest.mark.requirement("R14")
def test_a_bridge_has_no_score():
    x, t = jnp.zeros((1, 1)), jnp.zeros(1)
    with pytest.raises(TypeError, match="Gaussian"):
        predictions.convert(paths.Straight(), x, t, x, source="velocity", target="score")


def test_weight_of_the_score_at_the_data_end(path, float64):
    """beta' beta has a limit there where beta' has none: b = -(beta^2)' / 2."""
    near, end = jnp.array(1 - 1e-9), jnp.ones(())
    assert_close(predictions.score_weight(path, end), predictions.score_weight(path, near), 1e-7)


VANISHING = paths.from_functions(lambda t: t**2, lambda t: 1 - t**2)  # whose slopes are 0 at t = 0


@pytest.mark.requirement("R10")
def test_where_no_slope_is_left_the_noise_is_x():
    """And its derivatives; the data are not known there, and nan."""
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
def test_one_time_for_all(t, source):
    x, value = jax.random.normal(jax.random.key(0), (2, 4, 3))
    each = jnp.full(4, t, jnp.float32)
    of = lambda t: predictions.parts(paths.Cosine(), x, t, value, source=source)  # noqa: E731
    assert_close(of(t), of(each), 0)
    convert = lambda t: predictions.convert(paths.Cosine(), x, t, value, source=source, target="data")  # noqa: E731
    assert_close(convert(t), convert(each), 0)
    gain = lambda t: predictions.gain(paths.Cosine(), t, source=source, target="data")  # noqa: E731
    assert_close(gain(t), gain(each)[0], 0)


def test_v_is_the_velocity_of_the_cosine_path_but_for_a_factor(float64):
    """And of length one where alpha^2 + beta^2 is: alpha noise - beta data = -(2 / pi) u."""
    x, value = jax.random.normal(jax.random.key(0), (2, 4, 3))
    t = jnp.array([0.0, 0.3, 0.8, 1.0])
    v = predictions.convert(paths.Cosine(), x, t, value, source="velocity", target="v")
    assert_close(v, -2 / jnp.pi * value, 1e-12)
