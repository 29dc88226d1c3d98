import flax.linen as linen
import jax
import jax.numpy as jnp
import pytest
from conftest import PATHS, assert_close, three_components

from jaxflow import fields, guidance, mixtures, paths, sampling, solvers, times

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


PAIRS = [(a, b) for a in PATHS for b in PATHS if a != b and "ddpm" not in (a, b)]


@pytest.mark.requirement("R36")
@pytest.mark.parametrize(("trained", "sampled"), PAIRS)
def test_change_of_path_is_the_exact_field_of_the_other_path(trained, sampled, float64):
    trained, sampled = PATHS[trained], PATHS[sampled]
    x, t = jax.random.normal(jax.random.key(0), (16, 2)), jnp.linspace(0.1, 0.95, 16)
    exact = lambda path: lambda x, t: mixtures.velocity(three_components(), path, x, t)  # noqa: E731
    assert_close(fields.change_path(exact(trained), trained, sampled)(x, t), exact(sampled)(x, t), 1e-8)


@pytest.mark.requirement("R36")
def test_changed_path_leads_from_the_same_noise_to_the_same_data(float64):
    noise = jax.random.normal(jax.random.key(0), (16, 2))
    guided = lambda x, t, y: mixtures.velocity(three_components(), PATH, x, t, y)  # noqa: E731
    field = guidance.classifier_free(guided, jnp.arange(16) % 3, jnp.array(3), 3.0)
    changed = fields.change_path(field, PATH, paths.Cosine())
    ends = [sampling.sample_ode(f, noise, times.uniform(400), solver=solvers.rk4()) for f in (field, changed)]
    assert_close(ends[1], ends[0], 1e-8)
