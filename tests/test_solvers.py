import inspect
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_below, assert_close, by_path_compiled, normal, three_components

from jaxflow import mixtures, paths, per_example, sampling, solvers, times

PATH = paths.Linear()
METHODS = {
    "euler": solvers.euler(),
    "midpoint": solvers.midpoint(),
    "heun": solvers.heun(),
    "rk4": solvers.rk4(),
    "adams_bashforth2": solvers.adams_bashforth2(),
    "dpm_solver_2m": solvers.dpm_solver_2m(paths.Linear()),
    "dpm_solver_3m": solvers.dpm_solver_3m(paths.Linear()),
    "unipc": solvers.unipc(paths.Linear()),
}
KEY = jax.random.key(0)
STOCHASTIC = {
    "euler_maruyama": solvers.euler_maruyama(lambda t: 1 + t),
    "stochastic_heun": solvers.stochastic_heun(lambda t: 1 + t),
    "ancestral": solvers.ancestral(paths.Linear(), 0.7),
    "dpm_solver_2m_sde": solvers.dpm_solver_2m(paths.Linear(), 0.7),
    "dpm_solver_3m_sde": solvers.dpm_solver_3m(paths.Linear(), 0.7),
    "churned": solvers.churned(paths.Linear(), 0.3),
}


def grid(name, n):
    """Equal steps in t; for exponential integrators in log(alpha / beta), in which their order is stated."""
    if name not in ("dpm_solver_2m", "dpm_solver_3m", "unipc"):
        return times.uniform(n)
    return jax.nn.sigmoid(jnp.linspace(-4.0, 4.0, n + 1))  # log(t / (1 - t)) from -4 to 4


def field(x, t):
    return mixtures.velocity(three_components(), paths.Linear(), x, t)


@pytest.mark.requirement("R12")
@pytest.mark.parametrize("name", METHODS)
def test_measured_order_is_the_stated_one(name, float64):
    @jax.jit
    def errors(noise):
        exact = sampling.sample_ode(field, noise, grid(name, 1000), solver=solvers.rk4())
        ends = (sampling.sample_ode(field, noise, grid(name, n), solver=METHODS[name]) for n in (80, 320))
        return [jnp.sqrt(jnp.mean((x - exact) ** 2)) for x in ends]

    coarse, fine = errors(normal(64, 2))
    order = np.log(coarse / fine) / np.log(320 / 80)
    assert_below(abs(order - METHODS[name].order), 0.2)


@pytest.mark.parametrize("name", METHODS | STOCHASTIC)
def test_evaluations_per_step_and_their_times(name):
    looked, method = [], (METHODS | STOCHASTIC)[name]
    assert method.name == name.removesuffix("_sde")
    assert method.stochastic == (name in STOCHASTIC)

    def field(x, t):
        looked.append(float(t))
        return x

    x, keys = jnp.ones((1, 1)), per_example.keys(jax.random.key(0), 1)
    end, _ = method.step(field, x, jnp.array(0.75), jnp.array(1.0), method.start(x), keys)
    assert jnp.all(jnp.isfinite(end))
    assert len(looked) == method.evaluations
    assert method.looks_ahead == (name in ("heun", "rk4", "churned"))
    assert max(looked) == 1.0 if method.looks_ahead else max(looked) < 1.0


@pytest.mark.requirement("R12")
def test_adams_bashforth_on_a_grid_of_unequal_steps(float64):
    """Exact for a velocity linear in t, from the second step on, for any step sizes."""
    grid = jnp.array([0.0, 0.1, 0.4, 0.5, 1.0])
    field = lambda x, t: jnp.broadcast_to(1 + 2 * t[:, None], x.shape)  # noqa: E731
    start = jnp.zeros((1, 1))
    x = sampling.sample_ode(field, start, grid, solver=solvers.adams_bashforth2())
    first = 0.1  # an Euler step of 1 + 2 t from t = 0
    assert_close(x, jnp.array([[first + (1 + 1) - (0.1 + 0.01)]]), 1e-12)


@pytest.mark.requirement("R12")
def test_exponential_integrator_is_exact_for_the_linear_part(float64):
    """If all data are one point, any number of steps ends there."""
    z = jnp.array([[1.5, -0.5]])

    def ends(path, noise):
        def field(x, t):
            alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
            return d_alpha * z + d_beta * (x - alpha * z) / beta

        grids = (jnp.array([0.1, 1.0]), jnp.array([0.1, 0.3, 0.4, 1.0]))
        solver = solvers.dpm_solver_2m(path)
        return [sampling.sample_ode(field, noise, grid, solver=solver) for grid in grids]

    found = by_path_compiled(ends, normal(8, 2))
    assert_close(found, jax.tree.map(lambda x: jnp.broadcast_to(z, x.shape), found), 1e-10)


@pytest.mark.requirement("R8", "R12")
@pytest.mark.parametrize("eta", [0.3, 1.0])
@pytest.mark.parametrize(
    "make",
    [
        solvers.ancestral,
        solvers.dpm_solver_2m,
        solvers.dpm_solver_3m,
        lambda path, rise: solvers.churned(path, rise, solvers.euler()),  # exact on the lines to a point
    ],
    ids=["ancestral", "dpm_solver_2m", "dpm_solver_3m", "churned"],
)
def test_ancestral_steps_keep_the_marginals_of_one_point(make, eta, float64, monkeypatch):
    """Mean alpha z and variance beta^2 after a step, over signs of the noise before and in it."""
    z, t, t_next = jnp.array([[1.5]]), jnp.array(0.2), jnp.array(0.7)
    before, within = jnp.array([[1.0], [1.0], [-1.0], [-1.0]]), jnp.array([[1.0], [-1.0]] * 2)
    monkeypatch.setattr(per_example, "normal", lambda *_: within)
    solver, field = make(PATH, eta), lambda x, t: (z - x) / (1 - t)
    x = t * z + (1 - t) * before
    moved, _ = solver.step(field, x, t, t_next, solver.start(x), None)
    assert_close(jnp.mean(moved), t_next * z[0, 0], 1e-12)
    assert_close(jnp.var(moved), (1 - t_next) ** 2, 1e-12)


@dataclass(frozen=True)
class Exploding:
    """The path of EDM, x = data + sigma noise with sigma = 80 (1 - t)."""

    def alpha(self, t):
        return jnp.ones_like(t)

    def beta(self, t):
        return 80 * (1 - t)


def test_churn_is_algorithm_2_of_edm(float64, monkeypatch):
    """In its own variables, by NumPy, for data N(0, 1), which it denoises to x / (1 + sigma^2)."""
    sigmas, draws = np.array([60.0, 20.0, 5.0, 1.0, 0.2]), np.random.default_rng(0).standard_normal((4, 3, 1))
    churn, s_min, s_max, s_noise = 1.2, 0.5, 30.0, 1.003
    slope = lambda x, sigma: (x - x / (1 + sigma**2)) / sigma  # noqa: E731
    x, raised = np.ones((3, 1)) * sigmas[0], []
    for now, then, draw in zip(sigmas, sigmas[1:], draws, strict=False):
        gamma = min(churn / 4, 2**0.5 - 1) if s_min <= now <= s_max else 0
        hat = now + gamma * now
        x = x + np.sqrt(hat**2 - now**2) * s_noise * draw
        d = slope(x, hat)
        x = x + (then - hat) * (d + slope(x + (then - hat) * d, then)) / 2
        raised.append(gamma > 0)
    assert raised == [False, True, True, True]

    left = iter(draws)
    monkeypatch.setattr(per_example, "normal", lambda *_: jnp.asarray(next(left)))
    field = lambda x, t: -80 * slope(x, 80 * (1 - t[:, None]))  # noqa: E731
    numbers = {"churn": churn, "sigma_min": s_min, "sigma_max": s_max, "inflation": s_noise}
    with jax.disable_jit():  # each step draws its own noise
        start, grid = jnp.ones((3, 1)) * 60, jnp.asarray(1 - sigmas / 80)
        found = sampling.sample_churned(KEY, field, Exploding(), start, grid, **numbers)
    assert_close(found, x, 1e-11)


def test_without_churn_the_solver_is_left():
    """Also where the first time is 0, and the number is traced."""
    noise, field = normal(4, 2), lambda x, t: jnp.sin(3 * x) + t[:, None]

    def churned(churn):
        return sampling.sample_churned(KEY, field, PATH, noise, 5, churn=churn, solver=solvers.midpoint())

    alone = sampling.sample_ode(field, noise, 5, solver=solvers.midpoint())
    found = jax.jit(jax.vmap(churned))(jnp.array([0.0, 1.0]))
    assert_close(found[0], alone, 1e-6)
    assert jnp.all(jnp.isfinite(found[1]))
    assert not jnp.allclose(found[1], alone, atol=1e-2)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (
            lambda: solvers.churned(PATH, 0.1, solvers.unipc(PATH)),
            "solver = unipc: must be a deterministic one-step",
        ),
        (lambda: solvers.churned(PATH, 0.1, STOCHASTIC["ancestral"]), "solver = ancestral: must be"),
        (lambda: solvers.churned(PATH, -0.1), "rise = -0.1: must be non-negative"),
        (lambda: sampling.sample_churned(KEY, field, PATH, jnp.ones((1, 2)), 2, churn=-1.0), "churn = -1.0"),
    ],
)
def test_churn_that_is_impossible_is_rejected(make, says):
    with pytest.raises(ValueError, match=says):
        make()


@pytest.mark.requirement("R12")
def test_ten_steps_of_the_exponential_integrator_beat_fifty_of_euler(float64):
    """By the mean distance to the exact samples of the mixture."""

    @jax.jit
    def distances(noise):
        exact = sampling.sample_ode(field, noise, 500, solver=solvers.rk4())
        ours = sampling.sample_ode(field, noise, 10, solver=solvers.dpm_solver_2m(paths.Linear()))
        euler = sampling.sample_ode(field, noise, 50, solver=solvers.euler())
        return [jnp.mean(jnp.linalg.norm(x - exact, axis=1)) for x in (ours, euler)]

    ours, euler = distances(normal(512, 2))
    assert_below(ours / euler, 1.0)


@pytest.mark.requirement("R8", "R12")
@pytest.mark.parametrize("name", ["euler_maruyama", "stochastic_heun"])
def test_local_weak_order_is_the_stated_one(name, float64, monkeypatch):
    """E g(X) after a step, by quadrature, against g + h L g + h^2 / 2 L^2 g with the generator L."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(40)
    monkeypatch.setattr(per_example, "normal", lambda *_: jnp.asarray(nodes)[:, None])
    drift, sigma = lambda x, t: jnp.sin(2 * x + t) - x, lambda t: 1 + t

    def generator(g):
        first, second = jax.grad(g), jax.grad(jax.grad(g))
        return lambda x, t: (
            jax.grad(g, 1)(x, t) + drift(x, t) * first(x, t) + sigma(t) ** 2 / 2 * second(x, t)
        )

    @partial(jax.jit, static_argnums=0)
    def error(g, h):
        x, t = jnp.array(0.4), jnp.array(0.3)
        moved, _ = STOCHASTIC[name].step(drift, jnp.full((40, 1), x), t, t + h, (), None)
        found = jnp.sum(weights * jax.vmap(g, (0, None))(moved[:, 0], t + h)) / weights.sum()
        once = generator(g)
        return abs(found - g(x, t) - h * once(x, t) - h**2 / 2 * generator(once)(x, t))

    for g in (lambda x, t: x, lambda x, t: x**2, lambda x, t: jnp.sin(x)):
        order = np.log2(error(g, 0.002) / error(g, 0.001)) - 1
        assert_below(abs(order - STOCHASTIC[name].order), 0.1)


@pytest.mark.parametrize(
    ("solver", "says"),
    [
        ("heun", r"solver = 'heun': expected a Solver, solvers\.heun\(\)"),
        (solvers.heun, r"solver = heun: expected a Solver, solvers\.heun\(\)"),
        (solvers.dpm_solver_2m, r"solvers\.dpm_solver_2m\(path, eta\)"),
        ("rung", "such as"),
        (3, "solver = 3"),
    ],
)
def test_errors_name_a_solver_for_what_is_none(solver, says):
    for function in (sampling.sample_ode, sampling.invert_ode):
        with pytest.raises(TypeError, match=says):
            inspect.unwrap(function)(lambda x, t: x, jnp.ones((1, 1)), 2, solver=solver)


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
def test_the_sde_takes_a_function_from_sigma_to_a_stochastic_solver(solver):
    sample = inspect.unwrap(sampling.sample_sde)
    with pytest.raises(TypeError, match=r"from sigma to a stochastic Solver, such as.*itself"):
        sample(KEY, lambda x, t: x, paths.Linear(), jnp.ones((1, 1)), 2, sigma=1.0, solver=solver)


@pytest.mark.parametrize("name", ["dpm_solver_2m", *STOCHASTIC])
def test_forward_only_solvers_cannot_invert(name):
    solver, x = (METHODS | STOCHASTIC)[name], jnp.ones((1, 1))
    name = solver.name
    with pytest.raises(ValueError, match=f"solver = {name}: must integrate from data to noise"):
        sampling.invert_ode(lambda x, t: -x, x, 4, solver=solver)
    if not solver.stochastic:
        with pytest.raises(ValueError, match="must increase"):
            sampling.sample_ode(lambda x, t: -x, x, times.uniform(4)[::-1], solver=solver)
    else:
        with pytest.raises(ValueError, match=f"solver = {name}: must be deterministic"):
            sampling.sample_ode(lambda x, t: -x, x, 4, solver=solver)
