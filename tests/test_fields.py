import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import fields, mixtures, paths

PATH = paths.Linear()
X, T, Y = jax.random.normal(jax.random.key(0), (8, 2)), jnp.linspace(0.1, 0.9, 8), jnp.arange(8) % 3


class Exact(linen.Module):
    """The mixture as a network that predicts what it is asked to."""

    kind: str

    @linen.compact
    def __call__(self, x, t, y, *, train):
        scale = self.param("scale", linen.initializers.ones, ())
        value = {"velocity": mixtures.velocity, "score": mixtures.score, "data": mixtures.denoise}[self.kind]
        assert not train
        return scale * value(three_components(), PATH, x, t, y)


@pytest.mark.parametrize("kind", ["velocity", "score", "data"])
def test_a_network_of_any_prediction_is_the_same_field(kind):
    field = fields.from_network(Exact(kind), {"scale": jnp.ones(())}, PATH, prediction=kind)
    assert_close(field(X, T, Y), mixtures.velocity(three_components(), PATH, X, T, Y), 1e-4)


def test_condition_filled_in_and_score_of_a_field():
    guided = lambda x, t, y: mixtures.velocity(three_components(), PATH, x, t, y)  # noqa: E731
    velocity = fields.condition(guided, Y)
    assert_close(velocity(X, T), guided(X, T, Y), 0)
    score = fields.score(velocity, PATH)
    assert_close(score(X, T), mixtures.score(three_components(), PATH, X, T, Y), 1e-4)
    assert_close(score(X, jnp.zeros(8)), -X, 1e-6)  # finite where it begins
