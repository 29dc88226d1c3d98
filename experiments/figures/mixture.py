"""The mixture whose path and fields are drawn."""

import jax.numpy as jnp

from jaxflow import mixtures


def mixture() -> mixtures.Mixture:
    """Three classes in the plane."""
    return mixtures.Mixture(
        weights=jnp.array([0.4, 0.35, 0.25]),
        means=jnp.array([[1.4, 1.0], [-1.5, 0.5], [0.5, -1.5]]),
        covariances=jnp.array(
            [[[0.2, -0.12], [-0.12, 0.2]], [[0.06, 0.0], [0.0, 0.4]], [[0.3, 0.08], [0.08, 0.06]]]
        ),
    )
