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
    score = mixtures.score(mixture, path, x, t)
    return {
        "velocity": mixtures.velocity(mixture, path, x, t),
        "score": score,
        "noise": -c.beta[:, None] * score,
        "data": mixtures.denoise(mixture, path, x, t),
    }


@pytest.mark.parametrize(("source", "target"), list(product(KINDS, KINDS)))
def test_every_conversion_on_the_oracle(path, source, target, float64):
    x = jax.random.normal(jax.random.key(0), (64, 2))
    t = jnp.linspace(0.02, 0.98, 64)
    values = exact(path, x, t)
    converted = predictions.convert(path, x, t, values[source], source=source, target=target)
    assert_close(converted, values[target], 1e-10)


@pytest.mark.parametrize(("source", "target"), list(product(KINDS, KINDS)))
def test_float32(path, source, target):
    x = jax.random.normal(jax.random.key(0), (64, 2))
    t = jnp.linspace(0.1, 0.9, 64)
    values = exact(path, x, t)
    converted = predictions.convert(path, x, t, values[source], source=source, target=target)
    assert_close(converted, values[target], 1e-3 if isinstance(path, paths.VariancePreserving) else 1e-4)


AT_NOISE = [("velocity", target) for target in KINDS] + [("data", target) for target in KINDS]
AT_DATA = [("velocity", target) for target in ("data", "noise")] + [("score", "data"), ("noise", "data")]


@pytest.mark.parametrize(
    ("end", "source", "target"),
    [(0.0, *pair) for pair in AT_NOISE] + [(1.0, *pair) for pair in AT_DATA],
)
@pytest.mark.parametrize("name", ["linear", "cosine"])
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


def test_bfloat16_values_keep_time_in_float32():
    x = jnp.array([[1.0]], jnp.bfloat16)
    t = jnp.array([1 - 2.0**-12])  # 1 in bfloat16
    u = jnp.array([[1024.0]], jnp.bfloat16)
    data = predictions.convert(paths.Linear(), x, t, u, source="velocity", target="data")
    assert data.dtype == jnp.bfloat16
    assert_close(data.astype(jnp.float32), jnp.array([[1.25]]), 1e-2)  # x + (1 - t) u


def test_guidance_commutes_with_every_conversion(path, float64):
    x = jax.random.normal(jax.random.key(0), (16, 2))
    t = jnp.linspace(0.05, 0.95, 16)
    u, v = jax.random.normal(jax.random.key(1), (2, 16, 2))
    for source, target in product(KINDS, KINDS):
        convert = lambda value: predictions.convert(path, x, t, value, source=source, target=target)  # noqa: B023, E731
        assert_close(convert(-2 * u + 3 * v), -2 * convert(u) + 3 * convert(v), 1e-9)


def test_unknown_kind_is_refused():
    x, t = jnp.zeros((1, 1)), jnp.zeros(1)
    with pytest.raises(Exception, match="target"):
        predictions.convert(paths.Linear(), x, t, x, source="velocity", target="energy")
