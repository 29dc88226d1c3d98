from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
from conftest import assert_below, assert_close, assert_expected, assert_moments, three_components

from jaxflow import adaptive, guidance, mixtures, paths, per_example, sampling, solvers, times

PATH = paths.Linear()
pytestmark = pytest.mark.optimized
N = 20_000


def guided_gaussian_pair(w, n):
    """The field of O2: unguided data N(0, 2), data N(1, 1) given y, guided with w."""
    unguided = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full((1, 1, 1), 2.0))
    given = mixtures.Mixture(jnp.ones(1), jnp.ones((1, 1)), jnp.ones((1, 1, 1)))

    def field(x, t, y):
        return jnp.where((y == 0)[:, None], *(mixtures.velocity(m, PATH, x, t) for m in (given, unguided)))

    return guidance.classifier_free(field, jnp.zeros(n, jnp.int32), jnp.array(1), w)


def exact_moments(w, square_of_sigma, start):
    """Mean and variance at t = 1 of the guided SDE, whose drift is affine: two linear equations, to 1e-9."""

    def slope(t, moments):
        mean, variance = moments
        factor = constant = 0.0
        for weight, m, v in ((1 - w, 0.0, 2.0), (w, 1.0, 1.0)):
            s = t**2 * v + (1 - t) ** 2
            velocity, score = (t * v - (1 - t)) / s, -1 / s
            along = velocity + square_of_sigma(t) / 2 * score
            factor += weight * along
            constant += weight * (m - along * t * m)
        return [factor * mean + constant, 2 * factor * variance + square_of_sigma(t)]

    solved = scipy.integrate.solve_ivp(slope, (start, 1.0), [0.0, 1.0], method="LSODA", rtol=1e-9, atol=1e-11)
    return solved.y[:, -1]


# b = (1 - t) / t is infinite at t = 0, where a grid of constant ratio begins a little later.
FROM_LATER = np.concatenate([np.geomspace(1e-3, 0.5, 500), 1 - np.geomspace(0.5, 1e-3, 500)[1:], [1.0]])
SAMPLERS = {  # sigma^2, where it begins
    "ode": (lambda t: 0.0, 0.0),
    "sigma = 1, heun": (lambda t: 1.0, 0.0),
    "sigma = 1": (lambda t: 1.0, 0.0),
    "sigma^2 = 2b": (lambda t: 2 * (1 - t) / t, 1e-3),
    "ddpm": (lambda t: 2 * (1 - t) / t, 1e-3),
    "large sigma": (lambda t: 400 * (1 - t), 0.0),
}
PUBLISHED = {  # at w = 3, in the notes of requirement O2
    "ode": (2.0, 0.25),
    "sigma = 1": (1.7441, 0.4173),
    "sigma = 1, heun": (1.7441, 0.4173),
    "sigma^2 = 2b": (1.75, 0.3875),
    "ddpm": (1.75, 0.3875),
    "large sigma": (1.5, 0.5),  # the tilted density, reached as sigma goes to infinity
}


@pytest.mark.requirement("R41")
@pytest.mark.parametrize("name", SAMPLERS)
def test_moments_of_the_guided_pair_are_the_published_ones(name):
    """And the ODE ends in variance V^(1 - w) v^w for every w."""
    mean, variance = exact_moments(3.0, *SAMPLERS[name])
    bound = 2e-3 if name == "large sigma" else 1e-4
    assert_close(np.array([mean, variance]), np.array(PUBLISHED[name]), bound)
    for w in (0.0, 1.0, 5.0):
        assert_close(exact_moments(w, *SAMPLERS["ode"])[1], np.float64(2 ** (1 - w)), 1e-6)


@pytest.mark.requirement("R41", "R48")
@pytest.mark.parametrize("w", [1.0, 3.0, 5.0])
@pytest.mark.parametrize("name", SAMPLERS)
def test_guided_gaussian_pair(name, w):
    """O2: at w other than 0 and 1 flow and diffusion end in different laws, each known."""
    n = 80_000
    noise = jax.random.normal(jax.random.key(3), (n, 1))
    field, key = guided_gaussian_pair(w, n), jax.random.key(4)
    if name == "ode":
        x = sampling.sample_ode(field, noise, times.uniform(100), solver=solvers.rk4())
    elif name == "ddpm":
        x = sampling.sample_ddpm(key, field, PATH, noise, times.uniform(1000))
    elif name == "sigma = 1, heun":
        heun = solvers.stochastic_heun
        x = sampling.sample_sde(key, field, PATH, noise, times.cosine(60), sigma=1.0, solver=heun)
    else:
        sigma, grid = {
            "sigma = 1": (1.0, times.uniform(1000)),
            "sigma^2 = 2b": (sampling.reversal_sigma(PATH), jnp.asarray(FROM_LATER, jnp.float32)),
            "large sigma": (lambda t: 20 * jnp.sqrt(1 - t), 1 - (1 - times.uniform(3000)) ** 2),
        }[name]
        x = sampling.sample_sde(key, field, PATH, noise, grid, sigma=sigma)
    assert_moments(x[:, 0], *exact_moments(w, *SAMPLERS[name]), errors=6)


@pytest.mark.requirement("R48")
@pytest.mark.parametrize("w", [0.0, 1.0])
def test_flow_and_diffusion_agree_without_extrapolation(w, float64):
    noise = jax.random.normal(jax.random.key(5), (N, 1))
    field = guided_gaussian_pair(w, N)
    expected = (0.0, 2.0) if w == 0 else (1.0, 1.0)
    assert_moments(sampling.sample_ode(field, noise, times.uniform(100))[:, 0], *expected, errors=6)
    sde = sampling.sample_sde(jax.random.key(6), field, PATH, noise, times.uniform(1000), sigma=1.0)
    assert_moments(sde[:, 0], *expected, errors=6)


@pytest.mark.parametrize("sigma", [None, 1.0])
@pytest.mark.requirement("R8", "R12")
def test_mixture_is_sampled(sigma):
    """Weights, means and covariances of the two-dimensional mixture, by ODE and by SDE."""
    mixture, n = three_components(), 40_000
    noise = jax.random.normal(jax.random.key(7), (n, 2))
    field = lambda x, t: mixtures.velocity(mixture, PATH, x, t)  # noqa: E731
    if sigma is None:
        x = sampling.sample_ode(field, noise, times.uniform(100))
    else:
        x = sampling.sample_sde(jax.random.key(8), field, PATH, noise, times.uniform(400), sigma=sigma)
    mean = mixture.weights @ mixture.means
    spread = mixture.means - mean[None]
    covariance = jnp.einsum(
        "k,kij->ij", mixture.weights, mixture.covariances + spread[:, :, None] * spread[:, None]
    )
    centred = x - mean[None]
    assert_expected(x, mean, 6)
    assert_expected(centred[:, :, None] * centred[:, None, :], covariance, 6)
    cut = lambda points: (points[:, 0] > 0) & (points[:, 1] > 0)  # noqa: E731
    assert_expected(cut(x), cut(mixtures.sample(jax.random.key(9), mixture, 4_000_000)[0]).mean(), 6)


@pytest.mark.requirement("R36")
def test_guided_map_does_not_depend_on_the_path(float64):
    """O6: noise -> data of the guided ODE is the same for every Gaussian path with the same ends."""
    mixture = three_components()
    noise = jax.random.normal(jax.random.key(0), (16, 2))
    y = jnp.arange(16) % 3

    def end(path):
        field = lambda x, t, y: mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        guided = guidance.classifier_free(field, y, jnp.array(3), 7.5)
        return sampling.sample_ode(guided, noise, times.uniform(1000), solver=solvers.rk4())

    assert_close(end(paths.Cosine()), end(paths.Linear()), 1e-6)


@pytest.mark.requirement("R12")
def test_an_adaptive_integrator_of_another_library_agrees(float64):
    mixture, y = three_components(), jnp.arange(16) % 3
    noise = jax.random.normal(jax.random.key(0), (16, 2))
    field = lambda x, t, y: mixtures.velocity(mixture, PATH, x, t, y)  # noqa: E731
    guided = guidance.classifier_free(field, y, jnp.array(3), 3.0)
    reference = adaptive.sample_ode(guided, noise, tolerance=1e-11)
    ours = sampling.sample_ode(guided, noise, times.uniform(400), solver=solvers.rk4())
    assert_close(ours, reference, 1e-8)


@pytest.mark.requirement("R49")
def test_no_noise_is_the_ode():
    noise = jax.random.normal(jax.random.key(0), (8, 2))
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    sde = sampling.sample_sde(jax.random.key(1), field, PATH, noise, times.uniform(20), sigma=0.0)
    ode = sampling.sample_ode(field, noise, times.uniform(20), solver=solvers.euler())
    assert_close(sde, ode, 1e-6)


@pytest.mark.requirement("R12")
def test_trajectory_begins_with_the_noise_and_ends_with_the_sample():
    noise = jax.random.normal(jax.random.key(0), (8, 2))
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    grid = times.uniform(20)
    for walk in (
        lambda **options: sampling.sample_ode(field, noise, grid, **options),
        lambda **options: sampling.sample_sde(
            jax.random.key(1), field, PATH, noise, grid, sigma=0.5, **options
        ),
    ):
        points = walk(trajectory=True)
        chex.assert_shape(points, (21, 8, 2))
        assert_close(points[0], noise, 0)
        assert_close(points[-1], walk(), 1e-6)


def test_a_sample_is_the_same_alone_and_in_a_batch():
    noise = jax.random.normal(jax.random.key(0), (8, 2))
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    keys = per_example.keys(jax.random.key(1), 8)
    batch = sampling.sample_sde(jax.random.key(1), field, PATH, noise, times.uniform(20), sigma=1.0)
    alone = sampling.sample_sde(keys[3:4], field, PATH, noise[3:4], times.uniform(20), sigma=1.0)
    assert_close(batch[3:4], alone, 1e-5)


def test_sharded_over_devices_samples_are_the_same():
    assert len(jax.devices()) > 1
    mesh = jax.make_mesh((4,), ("examples",), axis_types=(jax.sharding.AxisType.Auto,))
    noise = jax.random.normal(jax.random.key(0), (8, 2))
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    sample = jax.jit(
        lambda noise: sampling.sample_sde(jax.random.key(1), field, PATH, noise, times.uniform(20), sigma=1.0)
    )
    laid_out = jax.device_put(noise, jax.sharding.NamedSharding(mesh, jax.P("examples")))
    assert_close(jax.device_get(sample(laid_out)), jax.device_get(sample(noise)), 1e-5)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_bad_sigma_is_refused(sigma):
    with pytest.raises(ValueError, match="sigma = "):
        sampling.sample_sde(
            jax.random.key(0), lambda x, t: x, PATH, jnp.ones((1, 1)), times.uniform(2), sigma=sigma
        )


def test_a_grid_without_a_step_is_refused():
    with pytest.raises(ValueError, match=r"times has the shape \(1,\)"):
        sampling.sample_ode(lambda x, t: x, jnp.ones((1, 1)), jnp.zeros(1))


@pytest.mark.requirement("R13")
@pytest.mark.parametrize("name", ["brownian", "ornstein_uhlenbeck", "langevin"])
def test_classical_processes(name, float64):
    """Brownian motion, an Ornstein-Uhlenbeck process and Langevin dynamics, after one unit of time."""
    start, grid, sigma = jnp.full((N, 1), 2.0), times.uniform(400), 0.8
    theta, law = 1.5, mixtures.Mixture(jnp.ones(1), jnp.ones((1, 1)), jnp.full((1, 1, 1), 0.5))
    drift = {
        "brownian": lambda x, t: jnp.zeros_like(x),
        "ornstein_uhlenbeck": lambda x, t: -theta * x,
        "langevin": lambda x, t: sigma**2 / 2 * mixtures.score(law, PATH, x, jnp.ones_like(t)),
    }[name]
    rate = {"brownian": 0.0, "ornstein_uhlenbeck": theta, "langevin": sigma**2 / 2 / 0.5}[name]
    centre = 1.0 if name == "langevin" else 0.0
    mean = centre + (2 - centre) * np.exp(-rate)
    variance = sigma**2 * (1 if rate == 0 else (1 - np.exp(-2 * rate)) / (2 * rate))
    x = sampling.simulate_sde(jax.random.key(0), drift, start, grid, sigma=sigma)
    assert_moments(x[:, 0], mean, variance, errors=6)


@pytest.mark.requirement("R8", "R13")
def test_langevin_dynamics_keeps_its_law(float64):
    """u = 0 and sigma^2 / 2 times the score: a mixture stays the mixture that it was."""
    mixture = three_components()
    x, _ = mixtures.sample(jax.random.key(0), mixture, N)
    drift = lambda x, t: 0.5 * mixtures.score(mixture, PATH, x, jnp.ones_like(t))  # noqa: E731
    moved = sampling.simulate_sde(jax.random.key(1), drift, x, times.uniform(2000), sigma=1.0)
    assert jnp.mean(jnp.linalg.norm(moved - x, axis=1)) > 0.5
    mean = mixture.weights @ mixture.means
    assert_expected(moved, mean, 6)
    spread = mixture.means - mean[None]
    square = jnp.einsum("k,kii->ki", jnp.ones(3), mixture.covariances) + spread**2
    assert_expected((moved - mean[None]) ** 2, mixture.weights @ square, 6)


@pytest.mark.requirement("R48")
def test_sigma_squared_2b_reverses_the_forward_process(path, float64):
    """Anderson: the reversal of dX = f X ds + g dW has the drift a x + g^2 score, g^2 = 2b, in our time."""
    mixture, x = three_components(), jax.random.normal(jax.random.key(0), (16, 2))
    for time in (0.2, 0.5, 0.8):
        t = jnp.full(16, time)
        alpha, beta, d_alpha, d_beta = paths.coefficients(path, jnp.array(time))
        g2 = 2 * (d_alpha / alpha * beta**2 - d_beta * beta)  # d beta^2 / ds - 2 f beta^2, with s = 1 - t
        assert_close(sampling.reversal_sigma(path)(jnp.array(time)) ** 2, g2, 1e-11)
        u, score = (f(mixture, path, x, t) for f in (mixtures.velocity, mixtures.score))
        assert_close(u + g2 / 2 * score, d_alpha / alpha * x + g2 * score, 1e-9)


@pytest.mark.requirement("R48")
def test_ancestral_step_is_the_exact_posterior(path, float64):
    """With a single data point the predicted data are exact, and so is every step: one, or a hundred."""
    z, t, t_next = jnp.array([[0.7]]), 0.3, 0.6
    field = lambda x, t: paths.conditional_velocity(  # noqa: E731
        path, jnp.broadcast_to(z, x.shape), (x - path.alpha(t)[:, None] * z) / path.beta(t)[:, None], t
    )
    alpha, beta = path.alpha(jnp.array(t)), path.beta(jnp.array(t))
    start = alpha * z + beta * jax.random.normal(jax.random.key(0), (N, 1))
    for grid in (jnp.array([t, t_next]), jnp.linspace(t, t_next, 8)):
        for eta in (0.0, 0.6, 1.0):
            x = sampling.sample_ddpm(jax.random.key(1), field, path, start, grid, eta=eta)[:, 0]
            mean, deviation = path.alpha(jnp.array(t_next)) * z[0, 0], path.beta(jnp.array(t_next))
            assert_moments(x, float(mean), float(deviation**2), errors=6)


def test_ddim_is_exact_where_the_data_are_predicted_once_for_all(float64):
    field = lambda x, t: (1.5 - x) / (1 - t)[:, None]  # noqa: E731  (all data are 1.5)
    noise = jax.random.normal(jax.random.key(0), (8, 1))
    x = sampling.sample_ddpm(jax.random.key(1), field, PATH, noise, jnp.array([0.0, 0.4]), eta=0.0)
    assert_close(x, 0.4 * 1.5 + 0.6 * noise, 1e-12)


def test_inversion_leads_back_to_the_noise(float64):
    noise = jax.random.normal(jax.random.key(0), (16, 2))
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    grid, rk4 = times.uniform(200), solvers.rk4()
    data = sampling.sample_ode(field, noise, grid, solver=rk4)
    assert_close(sampling.invert_ode(field, data, grid, solver=rk4), noise, 1e-7)


def test_dense_output_passes_through_the_trajectory(float64):
    noise = jax.random.normal(jax.random.key(0), (4, 2))
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    points = sampling.sample_ode(field, noise, times.uniform(200), solver=solvers.rk4(), trajectory=True)
    trajectory = adaptive.solution(field, noise, tolerance=1e-9)
    for i in (0, 37, 100, 200):
        assert_close(trajectory(jnp.array(i / 200)), points[i], 1e-6)
    back = adaptive.sample_ode(field, points[-1], start=1.0, end=0.0, tolerance=1e-10)
    assert_close(back, noise, 1e-7)


def test_adaptive_steps_by_tolerance_and_number():
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    with pytest.raises(ValueError, match="tolerance = 0"):
        adaptive.sample_ode(field, jnp.ones((1, 2)), tolerance=0.0)
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        adaptive.sample_ode(field, jnp.ones((1, 2)), tolerance=1e-6, most_steps=3)


def test_adaptive_steps_are_taken_in_float32_for_a_bfloat16_model():
    def field(x, t):
        assert x.dtype == jnp.bfloat16
        return -x

    noise = jnp.ones((1, 1), jnp.bfloat16)
    assert_close(adaptive.sample_ode(field, noise).astype(jnp.float32), jnp.full((1, 1), jnp.exp(-1.0)), 5e-3)
    assert adaptive.solution(field, noise)(jnp.array(0.5)).dtype == jnp.bfloat16


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_bad_eta_is_refused(eta):
    with pytest.raises(ValueError, match="eta = "):
        sampling.sample_ddpm(
            jax.random.key(0), lambda x, t: x, PATH, jnp.ones((1, 1)), times.uniform(2), eta=eta
        )


@pytest.mark.requirement("R8", "R12")
def test_weak_order_of_euler_maruyama(float64):
    """The variance of an Ornstein-Uhlenbeck process: the error halves with the step."""
    n, exact = 2**19, (1 - np.exp(-2)) / 2
    steps, errors = [4, 8, 16], []
    for count in steps:
        x = sampling.simulate_sde(
            jax.random.key(0), lambda x, t: -x, jnp.zeros((n, 1)), times.uniform(count), sigma=1.0
        )
        errors.append(float(jnp.mean(x**2)) - exact)
    order = -np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]
    assert_below(abs(order - 1), 0.2)


def test_bfloat16_samples_gain_from_more_steps():
    """The steps are taken in float32: in bfloat16 short ones would vanish beside x."""
    law = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full((1, 1, 1), 0.25))
    noise = jax.random.normal(jax.random.key(0), (2000, 1)).astype(jnp.bfloat16)

    def field(x, t):
        return mixtures.velocity(law, PATH, x.astype(jnp.float32), t).astype(x.dtype)

    x = sampling.sample_ode(field, noise, times.uniform(400), solver=solvers.euler())
    assert x.dtype == jnp.bfloat16
    assert_below(jnp.mean(jnp.abs(x.astype(jnp.float32) - noise.astype(jnp.float32) / 2)), 0.01)


def test_noise_is_added_up_to_a_grid_that_ends_before_the_data():
    """On the standard normal law, which the path keeps, the variance stays 1 where the grid ends at 1/2."""
    law = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.ones((1, 1, 1)))
    path, n = paths.Cosine(), 200_000
    noise = jax.random.normal(jax.random.key(0), (n, 1))
    field = lambda x, t: mixtures.velocity(law, path, x, t)  # noqa: E731
    x = sampling.sample_sde(jax.random.key(1), field, path, noise, jnp.linspace(0.0, 0.5, 101), sigma=1.0)
    # Euler-Maruyama's own error is h sigma^2 / 4 = 0.00125, less than a third of a standard error.
    assert_moments(x[:, 0], 0.0, 1.0, errors=6)


@pytest.mark.parametrize(
    ("grid", "says"), [([1.0, 0.5], "increase"), ([0.0, 0.0, 1.0], "increase"), ([0.0, 1.5], "all lie in")]
)
def test_grids_on_which_no_sde_runs_are_refused(grid, says):
    still = lambda x, t: jnp.zeros_like(x)  # noqa: E731
    for sample in (partial(sampling.sample_sde, sigma=1.0), sampling.sample_ddpm):
        with pytest.raises(ValueError, match=says):
            sample(jax.random.key(0), still, PATH, jnp.ones((1, 1)), jnp.array(grid))


def test_a_number_of_steps_is_the_uniform_grid():
    noise, grid = jnp.ones((2, 1)), times.uniform(5)
    field = lambda x, t: -x * t[:, None]  # noqa: E731
    for sample in (
        partial(sampling.sample_ode, field, noise),
        partial(sampling.invert_ode, field, noise),
        partial(sampling.sample_sde, jax.random.key(0), field, PATH, noise, sigma=0.5),
        partial(sampling.sample_ddpm, jax.random.key(0), field, PATH, noise),
        partial(sampling.simulate_sde, jax.random.key(0), field, noise, sigma=0.5),
    ):
        assert_close(sample(times=5), sample(times=grid), 0)


@pytest.mark.parametrize("answer", [lambda x: x[:, 0], lambda x: jnp.sum(x)], ids=["(b,)", "scalar"])
def test_a_field_that_answers_in_another_shape_is_refused(answer):
    noise, field = jnp.ones((3, 1)), lambda x, t: answer(x)
    for sample in (
        lambda: sampling.sample_ode(field, noise, 2),
        lambda: sampling.sample_sde(
            jax.random.key(0), lambda x, t: x, PATH, noise, 2, sigma=1.0, score=field
        ),
    ):
        with pytest.raises(ValueError, match=r"answers \((3,)?\) to x of shape \(3, 1\)"):
            sample()


@pytest.mark.requirement("R48")
def test_a_score_of_its_own_takes_the_place_of_the_field_s(float64):
    """The exact one changes nothing; without one the walk is that of u dt + sigma dW."""
    mixture, noise = three_components(), jax.random.normal(jax.random.key(0), (8, 2))
    field = lambda x, t: mixtures.velocity(mixture, PATH, x, t)  # noqa: E731
    score = lambda x, t: mixtures.score(mixture, PATH, x, t)  # noqa: E731
    grid = times.uniform(11)[:-1]
    sample = partial(sampling.sample_sde, jax.random.key(1), field, PATH, noise, grid, sigma=0.8)
    assert_close(sample(score=score), sample(), 1e-10)
    plain = sampling.simulate_sde(jax.random.key(1), field, noise, grid, sigma=0.8)
    assert_close(sample(score=lambda x, t: jnp.zeros_like(x)), plain, 1e-12)


VANISHING = paths.from_functions(lambda t: t**2, lambda t: 1 - t**2)  # whose slopes are 0 at t = 0
TERMINAL = paths.DDPM(jnp.concatenate([jnp.linspace(0.01, 0.5, 19), jnp.ones(1)]))  # alpha(0) = 0


@pytest.mark.requirement("R8")
@pytest.mark.parametrize("solver", [solvers.euler_maruyama, solvers.stochastic_heun])
@pytest.mark.parametrize("path", [VANISHING, TERMINAL], ids=["vanishing", "terminal"])
def test_the_sde_runs_where_paths_begin_oddly(path, solver):
    """From t = 0, where slopes vanish, or alpha = 0 in a table: the law of the data."""
    law = mixtures.Mixture(jnp.ones(1), jnp.ones((1, 1)), jnp.full((1, 1, 1), 0.5))
    field = lambda x, t: mixtures.velocity(law, path, x, t)  # noqa: E731
    noise, key = jax.random.normal(jax.random.key(0), (N // 2, 1)), jax.random.key(1)
    x = sampling.sample_sde(key, field, path, noise, times.uniform(200), sigma=0.5, solver=solver)
    assert_moments(x[:, 0], 1.0, 0.5, errors=6)


@pytest.mark.parametrize("path", [VANISHING, TERMINAL], ids=["vanishing", "terminal"])
def test_predicted_data_lead_there_where_paths_begin_oddly(path):
    """All data in one point: whatever walks arrives at it, from the first time at which it is determined."""
    z = jnp.array([[0.7]])

    def field(x, t):
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        return d_alpha * z + d_beta * (x - alpha * z) / beta

    noise, key = jax.random.normal(jax.random.key(0), (64, 1)), jax.random.key(1)
    grid = times.uniform(20)[0 if path is TERMINAL else 1 :]
    for x in (
        sampling.sample_ddpm(key, field, path, noise, grid),
        sampling.sample_ddpm(key, field, path, noise, grid, eta=0.0),
        sampling.sample_ode(field, noise, grid, solver=solvers.dpm_solver_2m(path)),
    ):
        assert_close(x, jnp.broadcast_to(z, x.shape), 1e-5)


def test_what_the_velocity_does_not_determine_is_refused():
    """Before the field is called: the data where no slope is left, a sigma that is infinite."""
    noise, key = jnp.ones((1, 1)), jax.random.key(0)

    def field(x, t):
        raise AssertionError("called")

    for sample in (
        lambda: sampling.sample_ddpm(key, field, VANISHING, noise, 20),
        lambda: jax.jit(lambda: sampling.sample_ddpm(key, field, VANISHING, noise, 20, eta=0))(),
        lambda: sampling.sample_ode(field, noise, 20, solver=solvers.dpm_solver_2m(VANISHING)),
    ):
        with pytest.raises(ValueError, match=r"t = 0 on path = .* does not determine the data; let"):
            sample()
    turning = paths.from_functions(lambda t: (2 * t - 1) ** 3 / 2 + 0.5, lambda t: 0.5 - (2 * t - 1) ** 3 / 2)
    with pytest.raises(ValueError, match=r"t = 0\.5 on path = .* does not determine the noise"):
        sampling.sample_sde(key, field, turning, noise, 2, sigma=1.0)
    for path in (PATH, VANISHING):
        with pytest.raises(ValueError, match=r"sigma\(0\) = (inf|nan): .*begin later"):
            sampling.sample_sde(key, field, path, noise, 20, sigma=sampling.reversal_sigma(path))
