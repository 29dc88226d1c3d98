"""Samplers against torchdiffeq, as called by flow_matching, and the schedulers of diffusers, step by step.

Schedulers round their noise levels to float32: we step at those that they have, to the last digit. They are
given our network and, where they draw noise, our noise.
"""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import Lazy, assert_close

from jaxflow import fields, paths, per_example, sampling, solvers, times
from reference import exact
from reference.exact import in_torch, points, to_jax, to_torch

# diffusers passes torch tensors to NumPy.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

torch, diffusers, flow_matching = Lazy("torch"), Lazy("diffusers"), Lazy("flow_matching.solver")
LINEAR = paths.Linear()
BETAS = np.linspace(1e-4, 0.02, 1000)
KEY = jax.random.key(3)

THREE_EIGHTHS = solvers.runge_kutta(
    "three_eighths",
    a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
    b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    c=(0.0, 1 / 3, 2 / 3, 1.0),
    order=4,
)


@pytest.mark.parametrize(
    ("solver", "its"),
    [
        (solvers.euler(), "euler"),
        (solvers.midpoint(), "midpoint"),
        (solvers.heun(), "heun2"),
        (THREE_EIGHTHS, "rk4"),
    ],
    ids=["euler", "midpoint", "heun", "three_eighths"],
)
def test_runge_kutta_methods_are_those_of_torchdiffeq(solver, its):
    """Its rk4 is the 3/8 rule, a different tableau of order 4 from ours."""
    grid, network = times.cosine(6), exact.velocity(paths.Cosine())
    peer = flow_matching.ODESolver(lambda x, t: in_torch(network)(x, t))
    expected = peer.sample(to_torch(points()), None, method=its, time_grid=to_torch(grid))
    assert_close(sampling.sample_ode(network, points(), grid, solver=solver), to_jax(expected), 1e-11)


def walk(scheduler, network, x, grid):
    """The loop of their pipelines, with the network evaluated at our times."""
    for timestep, t in zip(scheduler.timesteps, grid, strict=False):
        scaled = getattr(scheduler, "scale_model_input", lambda x, timestep: x)(x, timestep)
        x = scheduler.step(network(scaled, t), timestep, x).prev_sample
    return to_jax(x)


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_euler_is_the_flow_scheduler(shift, widened):
    """Its network predicts the negative of our velocity, at sigma = 1 - t."""
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(sigmas=np.linspace(1, 1 / 8, 8))
    grid = 1 - to_jax(scheduler.sigmas)
    network = lambda x, sigma: -exact.velocity(LINEAR)(x, 1 - sigma / 1000)  # noqa: E731
    expected = walk(scheduler, in_torch(network), to_torch(points()), 1000 * (1 - grid))
    field = fields.bind(
        fields.from_network(
            lambda params, x, k, y: network(x, k), None, LINEAR, time=lambda t: 1000 * (1 - t), sign=-1
        ),
        None,
    )
    assert_close(sampling.sample_ode(field, points(), grid, solver=solvers.euler()), expected, 1e-12)


def test_heun_is_the_flow_scheduler_but_for_the_last_step(widened):
    """Its last step is an Euler step, from sigma = 1 / 1000."""
    scheduler = diffusers.FlowMatchHeunDiscreteScheduler()
    scheduler.set_timesteps(6)
    grid = 1 - to_jax(torch.cat([scheduler.sigmas[:1], scheduler.sigmas[1::2]]))
    stages = jnp.repeat(grid, 2)[1:-1]
    network = in_torch(lambda x, t: -exact.velocity(LINEAR)(x, t))
    expected = walk(scheduler, network, to_torch(points()), stages)
    field = exact.velocity(LINEAR)
    x = sampling.sample_ode(field, points(), grid[:-1], solver=solvers.heun())
    assert_close(sampling.sample_ode(field, x, grid[-2:], solver=solvers.euler()), expected, 1e-12)
    assert float(grid[-2]) == pytest.approx(0.999)


def of_ddpm(scheduler, prediction="noise"):
    """A scheduler's path, a network for it, and our field; its timestep k is 1000 (1 - t) - 1."""
    path = paths.DDPM(to_jax(scheduler.betas))
    network = getattr(exact, prediction)(path)
    level = lambda t: 1000 * (1 - t) - 1  # noqa: E731
    apply = lambda params, x, k, y: network(x, 1 - (k + 1) / 1000)  # noqa: E731
    field = fields.from_network(apply, None, path, prediction=prediction, time=level)
    return path, in_torch(network), fields.bind(field, None)


def draws(n):
    """Our noise of n steps: for example i in step n it is drawn from fold_in(fold_in(key, i), n)."""
    keys = per_example.keys(KEY, len(points()))
    for step in range(n):
        yield to_torch(per_example.normal(per_example.fold_in(keys, step), (2,), jnp.float64))


@pytest.mark.parametrize(("spacing", "eta"), [("trailing", 0.0), ("trailing", 0.6), ("leading", 1.0)])
def test_ddpm_sampling_is_ddim_of_that_eta(spacing, eta, widened):
    """From level 999 in steps of 100, or from 900, with the last step from level 0 to the data."""
    scheduler = diffusers.DDIMScheduler(trained_betas=BETAS, clip_sample=False, timestep_spacing=spacing)
    scheduler.set_timesteps(10)
    path, network, field = of_ddpm(scheduler)
    grid = jnp.append(1 - (to_jax(scheduler.timesteps).astype(float) + 1) / 1000, 1.0)
    x, normal = to_torch(points()), draws(10)
    for k, t in zip(scheduler.timesteps, grid[:-1], strict=True):
        x = scheduler.step(network(x, t), k, x, eta=eta, variance_noise=next(normal)).prev_sample
    got = sampling.sample_ddpm(KEY, field, path, points(), grid, eta=eta)
    assert_close(got, to_jax(x), 1e-11)


def test_ddpm_sampling_is_that_of_v_from_pure_noise(widened):
    """With a last rate of 1 (`rescale_betas_zero_snr`), a network of v, and the first step at t = 0."""
    scheduler = diffusers.DDIMScheduler(
        trained_betas=BETAS,
        clip_sample=False,
        timestep_spacing="trailing",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
    )
    scheduler.set_timesteps(10)
    path, network, field = of_ddpm(scheduler, "v")
    expected = walk(scheduler, network, to_torch(points()), times.uniform(10))
    assert_close(sampling.sample_ddpm(KEY, field, path, points(), 10, eta=0.0), expected, 1e-11)


@pytest.mark.parametrize(
    ("options", "limit"),
    [
        ({}, lambda field, path: field),
        ({"clip_sample": True, "clip_sample_range": 0.8}, lambda *of: fields.clipped(*of, -0.8, 0.8)),
        (
            {"thresholding": True, "dynamic_thresholding_ratio": 0.7, "sample_max_value": 1.4},
            lambda *of: fields.dynamically_thresholded(*of, 0.7, 1.4),
        ),
    ],
    ids=["plain", "clipped", "thresholded"],
)
def test_ddpm_sampling_is_ddpm(options, limit, widened, monkeypatch):
    """With `fixed_small` variance. Its last step has a standard deviation of 1e-10, ours of 0."""
    options = {"clip_sample": False, "timestep_spacing": "trailing"} | options
    scheduler = diffusers.DDPMScheduler(trained_betas=BETAS, **options)
    scheduler.set_timesteps(10)
    path, network, field = of_ddpm(scheduler)
    field = limit(field, path)
    normal = draws(10)
    module = "diffusers.schedulers.scheduling_ddpm"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: next(normal)[..., None])
    last_axis = lambda x, t: network(x[..., 0], t)[..., None]  # noqa: E731  # it takes images only
    expected = walk(scheduler, last_axis, to_torch(points())[..., None], times.uniform(10))[..., 0]
    assert_close(sampling.sample_ddpm(KEY, field, path, points(), 10), expected, 1e-9)


@pytest.mark.parametrize(
    ("kind", "eta", "options"),
    [
        ("EulerDiscreteScheduler", 0.0, {}),
        ("EulerDiscreteScheduler", 0.0, {"use_karras_sigmas": True}),
        ("EulerAncestralDiscreteScheduler", 1.0, {}),
    ],
    ids=["euler", "euler on other levels", "ancestral"],
)
def test_ddpm_sampling_is_euler_in_the_variables_of_karras(kind, eta, options, widened, monkeypatch):
    """Their sample is x / alpha, their sigma beta / alpha. Here they start later, inside the table."""
    scheduler = getattr(diffusers, kind)(trained_betas=BETAS, timestep_spacing="leading", **options)
    scheduler.set_timesteps(10)
    path, network, field = of_ddpm(scheduler)
    scheduler.sigmas = scheduler.sigmas.double()
    sigmas = to_jax(scheduler.sigmas)
    grid = paths.time_of(path, jnp.ones_like(sigmas), sigmas)
    normal = draws(10)
    ancestral = "diffusers.schedulers.scheduling_euler_ancestral_discrete"
    monkeypatch.setattr(f"{ancestral}.randn_tensor", lambda *_, **__: next(normal))
    start = points() / path.alpha(grid[0])
    expected = walk(scheduler, network, to_torch(start), grid)
    got = sampling.sample_ddpm(KEY, field, path, points(), grid, eta=eta)
    assert_close(got, expected, 1e-11)


@pytest.mark.parametrize(("algorithm", "eta"), [("dpmsolver++", 0.0), ("sde-dpmsolver++", 1.0)])
def test_dpm_solver_is_the_second_order_multistep_one(algorithm, eta, widened, monkeypatch):
    """Its last step is also of first order, since sigma ends at 0 and lambda at infinity."""
    scheduler = diffusers.DPMSolverMultistepScheduler(
        trained_betas=BETAS, timestep_spacing="trailing", algorithm_type=algorithm
    )
    scheduler.set_timesteps(20)
    path, network, field = of_ddpm(scheduler)
    scheduler.sigmas = scheduler.sigmas.double()
    sigmas = to_jax(scheduler.sigmas)
    grid = paths.time_of(path, jnp.ones_like(sigmas), sigmas)
    normal = draws(20)
    module = "diffusers.schedulers.scheduling_dpmsolver_multistep"
    monkeypatch.setattr(f"{module}.randn_tensor", lambda *_, **__: next(normal))
    expected = walk(scheduler, network, to_torch(points()), grid)
    if eta:
        options = {"eta": eta, "solver": solvers.dpm_solver_2m}
        got = sampling.sample_ddpm(KEY, field, path, points(), grid, **options)
    else:
        got = sampling.sample_ode(field, points(), grid, solver=solvers.dpm_solver_2m(path))
    assert_close(got, expected, 1e-9)


def test_unipc_is_that_of_a_table(widened):
    """Of order 2 with B(h) = e^h - 1, their defaults; the last step is of first order, as sigma ends at 0."""
    scheduler = diffusers.UniPCMultistepScheduler(trained_betas=BETAS, timestep_spacing="trailing")
    scheduler.set_timesteps(10)
    path, network, field = of_ddpm(scheduler)
    scheduler.sigmas = scheduler.sigmas.double()
    sigmas = to_jax(scheduler.sigmas)
    grid = paths.time_of(path, jnp.ones_like(sigmas), sigmas)
    expected = walk(scheduler, network, to_torch(points()), grid)
    got = sampling.sample_ode(field, points(), grid, solver=solvers.unipc(path))
    assert_close(got, expected, 1e-9)


@pytest.mark.parametrize(
    ("kind", "make"),
    [("DPMSolverMultistep", solvers.dpm_solver_2m), ("UniPCMultistep", solvers.unipc)],
    ids=["dpm_solver_2m", "unipc"],
)
def test_exponential_integrators_on_the_straight_path(kind, make, widened):
    """Theirs start at sigma = 0.999 and 1 - 1e-6, so that only the last lambda is infinite."""
    options = {"use_flow_sigmas": True, "prediction_type": "flow_prediction"}
    scheduler = getattr(diffusers, f"{kind}Scheduler")(**options)
    scheduler.set_timesteps(20)
    scheduler.sigmas = scheduler.sigmas.double()
    grid = 1 - to_jax(scheduler.sigmas)
    network = in_torch(lambda x, t: -exact.velocity(LINEAR)(x, t))
    expected = walk(scheduler, network, to_torch(points()), grid)
    field = exact.velocity(LINEAR)
    got = sampling.sample_ode(field, points(), grid, solver=make(LINEAR))
    assert_close(got, expected, 1e-11)
