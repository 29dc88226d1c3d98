import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, three_components

from jaxflow import mixtures, paths, per_example, sampling, solvers, times

METHODS = {
    "euler": solvers.euler(),
    "midpoint": solvers.midpoint(),
    "heun": solvers.heun(),
    "rk4": solvers.rk4(),
    "adams_bashforth2": solvers.adams_bashforth2(),
    "dpm_solver_2m": solvers.dpm_solver_2m(paths.Linear()),
}
RANDOM = {
    "euler_maruyama": solvers.euler_maruyama(lambda t: 1 + t),
    "stochastic_heun": solvers.stochastic_heun(lambda t: 1 + t),
    "ancestral": solvers.ancestral(paths.Linear(), 0.7),
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


@pytest.mark.parametrize("name", METHODS | RANDOM)
def test_calls_of_the_field_and_where_it_looks(name):
    looked, method = [], (METHODS | RANDOM)[name]
    assert method.name == name
    assert method.random == (name in RANDOM)

    def field(x, t):
        looked.append(float(t))
        return x

    x, keys = jnp.ones((1, 1)), per_example.keys(jax.random.key(0), 1)
    end, _ = method.step(field, x, jnp.array(0.75), jnp.array(1.0), method.start(x), keys)
    assert jnp.all(jnp.isfinite(end))
    assert len(looked) == method.evaluations
    assert method.looks_ahead == (name in ("heun", "rk4"))
    assert max(looked) == 1.0 if method.looks_ahead else max(looked) < 1.0


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


@pytest.mark.requirement("R8", "R12")
@pytest.mark.parametrize("name", ["euler_maruyama", "stochastic_heun"])
def test_local_weak_order_is_the_stated_one(name, float64, monkeypatch):
    """E g(X) after a step, by quadrature, against g + h L g + h^2 / 2 L^2 g of the generator L."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    monkeypatch.setattr(per_example, "normal", lambda *_: jnp.asarray(nodes)[:, None])
    drift, sigma = lambda x, t: jnp.sin(2 * x + t) - x, lambda t: 1 + t

    def generator(g):
        first, second = jax.grad(g), jax.grad(jax.grad(g))
        return lambda x, t: (
            jax.grad(g, 1)(x, t) + drift(x, t) * first(x, t) + sigma(t) ** 2 / 2 * second(x, t)
        )

    def error(g, h):
        x, t = jnp.array(0.4), jnp.array(0.3)
        moved, _ = RANDOM[name].step(drift, jnp.full((40, 1), x), t, t + h, (), None)
        found = jnp.sum(weights * jax.vmap(g, (0, None))(moved[:, 0], t + h)) / weights.sum()
        once = generator(g)
        return abs(found - g(x, t) - h * once(x, t) - h**2 / 2 * generator(once)(x, t))

    for g in (lambda x, t: x, lambda x, t: x**2, lambda x, t: jnp.sin(x)):
        order = np.log2(error(g, 0.002) / error(g, 0.001)) - 1
        assert_below(abs(order - RANDOM[name].order), 0.1)


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        ("heun", r"solver = 'heun': a Solver is needed, solvers\.heun\(\)"),
        (solvers.heun, r"solver = heun: a Solver is needed, solvers\.heun\(\)"),
        (solvers.dpm_solver_2m, r"solvers\.dpm_solver_2m\(path\)"),
        ("rung", "such as"),
        (3, "solver = 3"),
    ],
)
def test_what_is_no_solver_is_refused_with_what_is_one(solver, says):
    for function in (sampling.sample_ode, sampling.invert_ode):
        with pytest.raises(TypeError, match=says):
            inspect.unwrap(function)(lambda x, t: x, jnp.ones((1, 1)), 2, solver=solver)


KEY = jax.random.key(0)


@pytest.mark.parametrize(
    "solver",
    [
        "euler_maruyama",
        solvers.euler_maruyama(1.0),
        solvers.heun,
        solvers.heun(),
        lambda sigma: solvers.heun(),
    ],
)
def test_the_sde_needs_a_function_from_sigma_to_a_random_solver(solver):
    sample = inspect.unwrap(sampling.sample_sde)
    with pytest.raises(TypeError, match=r"from sigma to a random Solver is needed, such as.*not called"):
        sample(KEY, lambda x, t: x, paths.Linear(), jnp.ones((1, 1)), 2, sigma=1.0, solver=solver)


@pytest.mark.parametrize("name", ["dpm_solver_2m", *RANDOM])
def test_solvers_that_walk_to_the_data_only_are_refused_on_the_way_back(name):
    solver, x = (METHODS | RANDOM)[name], jnp.ones((1, 1))
    with pytest.raises(ValueError, match=f"solver = {name}: it walks towards the data only"):
        sampling.invert_ode(lambda x, t: -x, x, 4, solver=solver)
    if not solver.random:
        with pytest.raises(ValueError, match="must increase"):
            sampling.sample_ode(lambda x, t: -x, x, times.uniform(4)[::-1], solver=solver)
    else:
        with pytest.raises(ValueError, match=f"solver = {name}: it draws noise"):
            sampling.sample_ode(lambda x, t: -x, x, 4, solver=solver)
