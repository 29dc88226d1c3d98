import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import three_components

from jaxflow import mixtures, paths, sampling, solvers, times

METHODS = {
    "euler": solvers.euler(),
    "midpoint": solvers.midpoint(),
    "heun": solvers.heun(),
    "rk4": solvers.rk4(),
}


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.requirement("R12")
def test_measured_order_is_the_stated_one(name, float64):
    solver, mixture = METHODS[name], three_components()
    noise = jax.random.normal(jax.random.key(0), (64, 2))
    field = lambda x, t: mixtures.velocity(mixture, paths.Linear(), x, t)  # noqa: E731
    exact = sampling.sample_ode(field, noise, times.uniform(2000), solver=solvers.rk4())
    steps = [40, 80, 160, 320]
    errors = [
        float(
            jnp.sqrt(
                jnp.mean((sampling.sample_ode(field, noise, times.uniform(n), solver=solver) - exact) ** 2)
            )
        )
        for n in steps
    ]
    order = -np.polyfit(np.log(steps), np.log(errors), 1)[0]
    assert abs(order - solver.order) < 0.2


@pytest.mark.parametrize("name", METHODS)
def test_calls_of_the_field_and_where_it_looks(name):
    looked = []

    def field(x, t):
        looked.append(float(t))
        return x

    METHODS[name].step(field, jnp.ones((1, 1)), jnp.array(0.75), jnp.array(1.0), ())
    assert len(looked) == METHODS[name].evaluations
    assert max(looked) == 1.0 if name in ("heun", "rk4") else max(looked) < 1.0
