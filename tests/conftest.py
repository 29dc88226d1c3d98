"""Every test runs with four CPU devices, strict dtypes and no silent broadcasting of ranks."""

import os

import chex
import jax
import jax.numpy as jnp
import pytest

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
    """For what runs optax, whose schedules multiply floats by integers."""
    with jax.numpy_dtype_promotion("standard"):
        yield


def three_components() -> mixtures.Mixture:
    """Three labelled components in two dimensions, no two covariances alike."""
    return mixtures.Mixture(
        weights=jnp.array([0.5, 0.3, 0.2]),
        means=jnp.array([[1.0, 0.0], [-1.0, 1.0], [0.5, -1.5]]),
        covariances=jnp.array(
            [[[0.3, 0.1], [0.1, 0.2]], [[0.5, -0.2], [-0.2, 0.4]], [[0.1, 0.0], [0.0, 0.6]]]
        ),
    )


def assert_close(actual, expected, bound):
    chex.assert_trees_all_close(actual, expected, atol=bound, rtol=bound)
