"""The identities of exact maps, on Gaussians in closed form and on mixtures by a solver."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import PATHS, assert_close, linspace, normal, three_components

from jaxflow import flow_maps, mixtures, paths, sampling, solvers, times
from jaxflow.per_example import expand

T, S = (0.1, 0.35, 0.6, 0.0), (0.8, 0.35, 0.7, 0.95)
LABELS = jnp.array([0, 1, 2, 1])


def gaussian(path):
    """The exact map to one component of the mixture for each of four points."""
    mixture = jax.tree.map(lambda leaf: leaf.astype(float), three_components())
    return mixture, flow_maps.of_gaussian(mixture, path, LABELS)


def points():
    return normal(4, 2), jax.device_put(np.array(T)), jax.device_put(np.array(S))


@pytest.mark.requirement("R69")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", ["linear", "cosine", "variance_preserving"])
def test_exact_maps_satisfy_the_three_identities(name):
    path = PATHS[name]
    mixture, average = gaussian(path)
    x, t, s = points()
    field = lambda x, t: mixtures.velocity(mixture, path, x, t, LABELS)  # noqa: E731
    length, ones = expand(s - t, x), jnp.ones_like(t)

    value, in_s = jax.jvp(lambda s: average(x, t, s), (s,), (ones,))
    end = x + length * value
    u = field(x, t)
    _, along = jax.jvp(lambda x, t: average(x, t, s), (x, t), (u, ones))
    apart = length != 0  # at s = t the quotient of the closed form is replaced by its limit
    identities = {
        "semigroup": (flow_maps.compose(average, 0.3)(x, t, s), value),
        "halves": (flow_maps.compose(average)(x, t, s), value),
        "lagrangian": (jnp.where(apart, value + length * in_s, u), field(end, s)),
        "eulerian": (jnp.where(apart, u + length * along, u), value),
        "instant": (flow_maps.velocity(average)(x, t), u),
        "back": (flow_maps.jump(average, end, s, t), x),
    }
    for actual, expected in identities.values():
        assert_close(actual, expected, 1e-10)


@pytest.mark.requirement("R69", "R72")
@pytest.mark.usefixtures("float64")
def test_the_map_of_a_field_is_exact_to_the_order_of_the_solver():
    path = paths.Linear()
    mixture, average = gaussian(path)
    x, t, s = points()
    field = lambda x, t: mixtures.velocity(mixture, path, x, t, LABELS)  # noqa: E731
    by_solver = flow_maps.from_field(field, 40, solver=solvers.rk4())
    assert_close(by_solver(x, t, s), average(x, t, s), 1e-7)

    marginal = lambda x, t: mixtures.velocity(mixture, path, x, t)  # noqa: E731
    of_mixture = jax.jit(flow_maps.from_field(marginal, 40, solver=solvers.rk4()))
    assert_close(flow_maps.compose(of_mixture, 0.4)(x, t, s), of_mixture(x, t, s), 1e-6)
    grid = times.uniform(40)
    end = sampling.sample_ode(marginal, x, grid, solver=solvers.rk4())
    assert_close(flow_maps.jump(of_mixture, x, 0.0, 1.0), end, 1e-12)  # the same steps


@pytest.mark.requirement("R72")
@pytest.mark.usefixtures("float64")
def test_any_number_of_exact_jumps_leads_to_the_same_data_and_back():
    _, average = gaussian(paths.Linear())
    x = normal(4, 2, seed=1)
    one = flow_maps.sample(average, x, 1)
    for grid in (2, times.cosine(4)):
        assert_close(flow_maps.sample(average, x, grid), one, 1e-12)
    points = flow_maps.sample(average, one, linspace(1, 0, 4), trajectory=True)
    assert points.shape == (4, 4, 2)
    assert_close(points[-1], x, 1e-12)


@pytest.mark.requirement("R71")
@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("w", [0.0, 1.0, 3.0])
def test_the_guided_map_of_two_gaussians_is_affine_with_a_known_slope(w):
    """p(data) = N(0, 1) and p(data | y) = N(0, 0.5), on the straight path, guided."""
    path, variances = paths.Linear(), (1.0, 0.5)
    pair = [
        mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full((1, 1, 1), variance))
        for variance in variances
    ]
    unguided, guided = (lambda x, t, each=each: mixtures.velocity(each, path, x, t) for each in pair)
    field = lambda x, t: (1 - w) * unguided(x, t) + w * guided(x, t)  # noqa: E731
    x, t, s = normal(4, 1), *points()[1:]
    deviation = lambda v, t: jnp.sqrt(t**2 * v + (1 - t) ** 2)  # noqa: E731
    ratios = [deviation(v, s) / deviation(v, t) for v in variances]
    slope = ratios[0] ** (1 - w) * ratios[1] ** w
    by_solver = flow_maps.from_field(field, 60, solver=solvers.rk4())
    assert_close(flow_maps.jump(by_solver, x, t, s), slope[:, None] * x, 1e-8)


def test_bad_arguments_are_named():
    mixture = three_components()
    with pytest.raises(ValueError, match="y = None: must be a component for each example, since there are 3"):
        flow_maps.of_gaussian(mixture, paths.Linear())
    with pytest.raises(ValueError, match="returned shape"):
        flow_maps.jump(lambda x, t, s: x[0], jnp.ones((2, 1)), 0.0, 1.0)
    with pytest.raises(ValueError, match=r"times.*\[0, 1\]"):
        flow_maps.sample(lambda x, t, s: x, jnp.ones((2, 1)), jnp.array([0.0, 2.0]))
    with pytest.raises(ValueError, match="draws noise"):
        flow_maps.from_field(lambda x, t: x, 2, solver=solvers.euler_maruyama(0.5))(
            jnp.ones((1, 1)), jnp.zeros(1), jnp.ones(1)
        )
