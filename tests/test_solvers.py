import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, three_components

from jaxflow import mixtures, paths, sampling, solvers, times

METHODS = {
    "euler": solvers.euler(),
    "midpoint": solvers.midpoint(),
    "heun": solvers.heun(),
    "rk4": solvers.rk4(),
    "adams_bashforth2": solvers.adams_bashforth2(),
    "dpm_solver_2m": solvers.dpm_solver_2m(paths.Linear()),
}


def grid(name, n):
    """Equal steps; of the exponential integrator in log(alpha / beta), as its order is stated."""
    if name != "dpm_solver_2m":
        return times.uniform(n)
    return jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, n + 1))  # log(t / (1 - t)) from -4 to 4


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("name", METHODS)
def test_measured_order_is_the_stated_one(name, float64):
    solver, mixture = METHODS[name], three_components()
    noise = jax.random.normal(jax.random.key(0), (64, 2))
    field = lambda x, t: mixtures.velocity(mixture, paths.Linear(), x, t)  # noqa: E731
    exact = sampling.sample_ode(field, noise, grid(name, 2000), solver=solvers.rk4())

    def error(n):
        x = sampling.sample_ode(field, noise, grid(name, n), solver=solver)
        return float(jnp.sqrt(jnp.mean((x - exact) ** 2)))

    steps = [40, 80, 160, 320]
    order = -np.polyfit(np.log(steps), np.log([error(n) for n in steps]), 1)[0]
    assert_below(abs(order - solver.order), 0.2)


@pytest.mark.parametrize("name", METHODS)
def test_calls_of_the_field_and_where_it_looks(name):
    looked = []

    def field(x, t):
        looked.append(float(t))
        return x

    x = jnp.ones((1, 1))
    METHODS[name].step(field, x, jnp.array(0.75), jnp.array(1.0), METHODS[name].start(x))
    assert len(looked) == METHODS[name].evaluations
    assert METHODS[name].looks_ahead == (name in ("heun", "rk4"))
    assert max(looked) == 1.0 if METHODS[name].looks_ahead else max(looked) < 1.0


@pytest.mark.requirement("R12")
def test_adams_bashforth_on_a_grid_of_unequal_steps(float64):
    """Exact for a velocity that is linear in t, from the second step on, whatever the steps."""
    grid = jnp.array([0.0, 0.1, 0.4, 0.5, 1.0])
    field = lambda x, t: jnp.broadcast_to(1 + 2 * t[:, None], x.shape)  # noqa: E731
    start = jnp.zeros((1, 1))
    x = sampling.sample_ode(field, start, grid, solver=solvers.adams_bashforth2())
    first = 0.1  # Euler's, of 1 + 2 t from t = 0
    assert_close(x, jnp.array([[first + (1 + 1) - (0.1 + 0.01)]]), 1e-12)


@pytest.mark.requirement("R12")
def test_exponential_integrator_is_exact_for_the_linear_part(path, float64):
    """All data in one point: however few the steps, the end is that point."""
    solver, z = solvers.dpm_solver_2m(path), jnp.array([1.5, -0.5])

    def field(x, t):
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        return d_alpha * z[None] + d_beta * (x - alpha * z[None]) / beta

    noise = jax.random.normal(jax.random.key(0), (8, 2))
    for grid in (jnp.array([0.1, 1.0]), jnp.array([0.1, 0.3, 0.4, 1.0])):
        x = sampling.sample_ode(field, noise, grid, solver=solver)
        assert_close(x, jnp.broadcast_to(z[None], x.shape), 1e-10)


@pytest.mark.requirement("R12")
def test_ten_steps_of_the_exponential_integrator_beat_fifty_of_euler(float64):
    """On the mixture, in the mean distance to the exact sample."""
    mixture, noise = three_components(), jax.random.normal(jax.random.key(0), (512, 2))
    field = lambda x, t: mixtures.velocity(mixture, paths.Linear(), x, t)  # noqa: E731
    exact = sampling.sample_ode(field, noise, times.uniform(2000), solver=solvers.rk4())

    def distance(n, solver):
        x = sampling.sample_ode(field, noise, times.uniform(n), solver=solver)
        return float(jnp.mean(jnp.linalg.norm(x - exact, axis=1)))

    ratio = distance(10, solvers.dpm_solver_2m(paths.Linear())) / distance(50, solvers.euler())
    assert_below(ratio, 1.0)
