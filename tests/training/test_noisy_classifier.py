import jax
import jax.numpy as jnp
import pytest
from conftest import assert_below, three_components

from jaxflow import mixtures, paths
from jaxflow.training.noisy_classifier import train_noisy_classifier


@pytest.mark.requirement("R30")
@pytest.mark.usefixtures("standard_promotion")
def test_it_learns_the_exact_classifier_of_noisy_points():
    """Points of the mixture as images of 1 x 2 pixels: at all t probabilities close to Bayes' rule."""
    mixture, path = three_components(), paths.Linear()
    points, labels = mixtures.sample(jax.random.key(0), mixture, 20_000)
    images = points.reshape(-1, 1, 2, 1)
    options = {"steps": 250, "batch_size": 128, "encode": lambda half: 2 * half}
    log_prob = train_noisy_classifier(jax.random.key(1), path, images / 2, labels, 3, **options)

    t = jnp.linspace(0.02, 0.98, 500)
    noise = jax.random.normal(jax.random.key(2), images[:500].shape)
    x = paths.interpolate(path, images[:500], noise, t)
    exact = mixtures.class_log_prob(mixture, path, x.reshape(-1, 2), t)
    learned = jax.jit(lambda: jnp.stack([log_prob(x, t, jnp.full(500, k)) for k in range(3)], axis=1))()
    # A classifier that knows only the weights of the classes is off by 0.2 on average.
    prior = jnp.mean(jnp.abs(mixture.weights[None] - jnp.exp(exact)))
    assert prior > 0.15
    assert_below(jnp.mean(jnp.abs(jnp.exp(learned) - jnp.exp(exact))) / prior, 0.15)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"steps": 0}, "steps = 0"),
        ({"batch_size": 0}, "batch_size = 0"),
        ({}, "labels = .*must be from 0 to 1"),
    ],
)
def test_arguments_out_of_range_are_rejected(options, says):
    images, labels = jnp.zeros((3, 1, 2, 1)), jnp.array([0, 1, 2])
    with pytest.raises(ValueError, match=says):
        train_noisy_classifier(jax.random.key(0), paths.Linear(), images, labels, 2, **options)
