"""Likelihood against flow_matching, with the same steps and with its adaptive ones."""

import jax
import jax.numpy as jnp
import pytest
from conftest import Lazy, assert_close

from jaxflow import adaptive, likelihood, solvers, times
from reference.exact import points, to_jax, to_torch

torch, solver = Lazy("torch"), Lazy("flow_matching.solver")
WEIGHTS = ([[0.5, -1.0, 0.3], [0.2, 0.8, -0.6]], [[0.7, -0.4], [0.3, 0.9], [-0.5, 0.6]])


def field(x, t):
    first, second = (jnp.array(weight) for weight in WEIGHTS)
    return jnp.tanh(x @ first + 2 * t[:, None]) @ second


def model(x, t):
    first, second = (torch.tensor(weight) for weight in WEIGHTS)
    return torch.tanh(x @ first + 2 * t) @ second


def normal_log_prob(x):
    return torch.distributions.Normal(0, 1).log_prob(x).sum(dim=1)


def peer(data, **options):
    """Their log p_1 in nats, summed over dimensions."""
    with_options = {"step_size": None, "exact_divergence": True, **options}
    return to_jax(
        solver.ODESolver(model).compute_likelihood(to_torch(data), normal_log_prob, **with_options)[1]
    )


@pytest.mark.parametrize(("name", "its"), [("euler", "euler"), ("midpoint", "midpoint"), ("heun", "heun2")])
def test_exact_likelihood_step_by_step(name, its):
    data, grid = points(), times.cosine(6)
    got = likelihood.log_prob(field, data, grid, solver=getattr(solvers, name)())
    assert_close(got, peer(data, method=its, time_grid=to_torch(grid[::-1])), 1e-12)


def test_estimated_likelihood_with_the_same_signs(monkeypatch):
    """One sign per dimension along the whole trajectory; they use one probe."""
    signs = jnp.array([1.0, -1.0])
    monkeypatch.setattr(jax.random, "rademacher", lambda key, shape, dtype: jnp.broadcast_to(signs, shape))
    monkeypatch.setattr("torch.randn_like", lambda x: -to_torch(jnp.broadcast_to(signs, x.shape)))
    data, grid = points(), times.uniform(5)
    got = likelihood.log_prob(field, data, grid, solver=solvers.euler(), key=jax.random.key(0))
    expected = peer(data, exact_divergence=False, time_grid=to_torch(grid[::-1]))
    assert_close(got, expected, 1e-12)
    exact = peer(data, time_grid=to_torch(grid[::-1]))
    assert jnp.max(jnp.abs(got - exact)) > 0.01


def test_likelihood_of_many_steps_is_their_adaptive_one():
    data = points()
    expected = peer(data, method="dopri5", atol=1e-11, rtol=1e-11)
    assert_close(likelihood.log_prob(field, data, 100), expected, 1e-8)


def test_adaptive_steps_end_where_theirs_do():
    """Both use the pair of Dormand and Prince, each with its own steps."""
    expected = solver.ODESolver(model).sample(
        to_torch(points()), None, method="dopri5", atol=1e-11, rtol=1e-11
    )
    assert_close(adaptive.sample_ode(field, points(), tolerance=1e-11), to_jax(expected), 1e-9)
