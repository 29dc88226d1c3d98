from functools import partial

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import (
    assert_below,
    assert_close,
    assert_expected,
    assert_moments,
    assert_pairs,
    by_path_compiled,
    linspace,
    normal,
    three_components,
)
from scipy.integrate import solve_ivp
from scipy.stats import multivariate_normal

from jaxflow import adaptive, guidance, mixtures, paths, per_example, sampling, solvers, times

PATH = paths.Linear()
N = 20_000


def gaussian_velocity(path, x, t, mean, variance):
    """The velocity of data N(mean, variance), which is affine in x."""
    alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
    r = (x - alpha * mean) / (alpha**2 * variance + beta**2)
    return d_alpha * (mean + alpha * variance * r) + d_beta * beta * r


def gaussian_field(path):
    return lambda x, t: gaussian_velocity(path, x, t, 1.0, 0.5)


def guided_gaussian_pair(w, n):
    """Data N(0, 2), and N(1, 1) given y, guided with w."""

    def field(x, t, y):
        given = (y == 0)[:, None]
        return gaussian_velocity(PATH, x, t, jnp.where(given, 1.0, 0.0), jnp.where(given, 1.0, 2.0))

    return guidance.classifier_free(field, jnp.zeros(n, jnp.int32), jnp.array(1), w)


def exact_moments(w, square_of_sigma, start):
    """Mean and variance at t = 1 of the guided SDE, as its drift is affine: two linear ODEs, to 1e-9."""

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

    solved = solve_ivp(slope, (start, 1.0), [0.0, 1.0], method="LSODA", rtol=1e-9, atol=1e-11)
    return solved.y[:, -1]


# b = (1 - t) / t is infinite at t = 0: this grid, geometric towards both ends, starts a little later.
FROM_LATER = np.concatenate([np.geomspace(1e-3, 0.5, 120), 1 - np.geomspace(0.5, 1e-3, 120)[1:], [1.0]])
SAMPLERS = {  # sigma^2, first time
    "ode": (lambda t: 0.0, 0.0),
    "sigma = 1, heun": (lambda t: 1.0, 0.0),
    "sigma = 1": (lambda t: 1.0, 0.0),
    "sigma^2 = 2b": (lambda t: 2 * (1 - t) / t, 1e-3),
    "ddpm": (lambda t: 2 * (1 - t) / t, 1e-3),
    "large sigma": (lambda t: 100 * (1 - t), 0.0),
}
PUBLISHED = {  # at w = 3
    "ode": (2.0, 0.25),
    "sigma = 1": (1.7441, 0.4173),
    "sigma = 1, heun": (1.7441, 0.4173),
    "sigma^2 = 2b": (1.75, 0.3875),
    "ddpm": (1.75, 0.3875),
    "large sigma": (1.5, 0.5),  # the tilted density, the limit of large sigma
}


@pytest.mark.requirement("R41")
@pytest.mark.parametrize("name", SAMPLERS)
def test_moments_of_the_guided_pair_are_the_published_ones(name):
    """And the ODE's variance is V^(1 - w) v^w for every w."""
    large = name == "large sigma"
    square_of_sigma, start = (lambda t: 400 * (1 - t), 0.0) if large else SAMPLERS[name]
    moments = exact_moments(3.0, square_of_sigma, start)
    assert_close(moments, np.array(PUBLISHED[name]), 2e-3 if large else 1e-4)
    for w in (0.0, 1.0, 5.0):
        assert_close(exact_moments(w, *SAMPLERS["ode"])[1], np.float64(2 ** (1 - w)), 1e-6)


def walk(name, field, noise, key):
    """Samples of a guided pair by one of `SAMPLERS`."""
    if name == "ode":
        return sampling.sample_ode(field, noise, times.uniform(50), solver=solvers.rk4())
    if name == "ddpm":
        return sampling.sample_ddpm(key, field, PATH, noise, times.uniform(500))
    if name == "sigma = 1, heun":
        heun = solvers.stochastic_heun
        return sampling.sample_sde(key, field, PATH, noise, times.cosine(60), sigma=1.0, solver=heun)
    sigma, grid = {
        "sigma = 1": (1.0, times.uniform(200)),
        "sigma^2 = 2b": (sampling.reversal_sigma(PATH), jnp.asarray(FROM_LATER, jnp.float32)),
        "large sigma": (lambda t: 10 * jnp.sqrt(1 - t), 1 - (1 - times.uniform(1000)) ** 2),
    }[name]
    return sampling.sample_sde(key, field, PATH, noise, grid, sigma=sigma)


@pytest.mark.optimized
@pytest.mark.requirement("R41", "R48")
@pytest.mark.parametrize("name", SAMPLERS)
def test_guided_gaussian_pair(name):
    """Flow and diffusion agree at w = 0 and 1; at other w they differ, each as its moments say."""
    noise, scales = normal(N, 1, seed=3), [0.0, 1.0, 3.0, 5.0]
    sample = lambda w: walk(name, guided_gaussian_pair(w, N), noise, jax.random.key(4))  # noqa: E731
    for w, x in zip(scales, jax.jit(jax.vmap(sample))(jnp.array(scales)), strict=True):
        start = SAMPLERS[name][1]
        expected = exact_moments(w, *SAMPLERS[name])
        if w in (0.0, 1.0) and start == 0:
            assert_close(expected, np.array([0.0, 2.0] if w == 0 else [1.0, 1.0]), 1e-6)
        assert_moments(x[:, 0], *expected, errors=6)


def moments(mixture):
    """Mean and covariance."""
    weights, means, covariances = map(np.asarray, (mixture.weights, mixture.means, mixture.covariances))
    mean = weights @ means
    spread = means - mean
    return mean, np.einsum("k,kij->ij", weights, covariances + spread[:, :, None] * spread[:, None])


@pytest.mark.optimized
@pytest.mark.parametrize("sigma", [None, 1.0])
@pytest.mark.requirement("R8", "R12")
def test_mixture_is_sampled(sigma):
    """Mean, covariance and the mass of a quadrant of the two-dimensional mixture, by ODE and by SDE."""
    mixture = three_components()
    noise = normal(2 * N, 2, seed=7)
    field = lambda x, t: mixtures.velocity(mixture, PATH, x, t)  # noqa: E731
    if sigma is None:
        walk = lambda: sampling.sample_ode(field, noise, times.uniform(50))  # noqa: E731
    else:
        key, grid = jax.random.key(8), times.uniform(200)
        walk = lambda: sampling.sample_sde(key, field, PATH, noise, grid, sigma=sigma)  # noqa: E731
    x = np.asarray(jax.jit(walk)())
    mean, covariance = moments(mixture)
    centred = x - mean
    assert_expected(x, mean, 6)
    assert_expected(centred[:, :, None] * centred[:, None, :], covariance, 6)
    components = zip(np.asarray(mixture.means), np.asarray(mixture.covariances), strict=True)
    masses = [multivariate_normal(-m, c).cdf(np.zeros(2)) for m, c in components]
    assert_expected((x > 0).all(axis=1), np.asarray(mixture.weights) @ masses, 6)


@pytest.mark.requirement("R36")
def test_guided_map_does_not_depend_on_the_path(float64):
    """The guided ODE maps noise to the same data along all Gaussian paths with the same ends."""
    mixture = three_components()
    noise = normal(16, 2)
    y = jnp.arange(16) % 3

    def end(path):
        field = lambda x, t, y: mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        guided = guidance.classifier_free(field, y, jnp.array(3), 7.5)
        return sampling.sample_ode(guided, noise, times.uniform(500), solver=solvers.rk4())

    assert_close(end(paths.Cosine()), end(paths.Linear()), 1e-6)


@pytest.mark.requirement("R12")
def test_the_adaptive_integrator_agrees(float64):
    mixture, y = three_components(), jnp.arange(16) % 3
    noise = normal(16, 2)
    field = lambda x, t, y: mixtures.velocity(mixture, PATH, x, t, y)  # noqa: E731
    guided = guidance.classifier_free(field, y, jnp.array(3), 3.0)
    reference = adaptive.sample_ode(guided, noise, tolerance=1e-11)
    ours = sampling.sample_ode(guided, noise, times.uniform(400), solver=solvers.rk4())
    assert_close(ours, reference, 1e-8)


@pytest.mark.requirement("R49")
def test_no_noise_is_the_ode():
    noise, field, grid = normal(8, 2), gaussian_field(PATH), times.uniform(20)

    @jax.jit
    def walks():
        sde = sampling.sample_sde(jax.random.key(1), field, PATH, noise, grid, sigma=0.0)
        return sde, sampling.sample_ode(field, noise, grid, solver=solvers.euler())

    assert_close(*walks(), 1e-6)


@pytest.mark.requirement("R12")
def test_trajectory_begins_with_the_noise_and_ends_with_the_sample():
    noise, field, grid = normal(8, 2), gaussian_field(PATH), times.uniform(20)
    for walk in (
        partial(sampling.sample_ode, field, noise, grid),
        partial(sampling.sample_sde, jax.random.key(1), field, PATH, noise, grid, sigma=0.5),
    ):
        points, end = jax.jit(lambda walk=walk: (walk(trajectory=True), walk()))()
        chex.assert_shape(points, (21, 8, 2))
        assert_close(points[0], noise, 0)
        assert_close(points[-1], end, 1e-6)


def test_a_sample_does_not_depend_on_the_batch():
    noise, key = normal(8, 2), jax.random.key(1)
    sample = partial(sampling.sample_sde, field=gaussian_field(PATH), path=PATH, times=20, sigma=1.0)

    @jax.jit
    def both():
        keys = per_example.keys(key, 8)
        return sample(key, noise=noise)[3:4], sample(keys[3:4], noise=noise[3:4])

    assert_close(*both(), 1e-5)


def test_sharded_samples_are_the_same():
    assert len(jax.devices()) > 1
    mesh = jax.make_mesh((4,), ("examples",), axis_types=(jax.sharding.AxisType.Auto,))
    noise, field = normal(8, 2), gaussian_field(PATH)
    sample = jax.jit(
        lambda noise: sampling.sample_sde(jax.random.key(1), field, PATH, noise, times.uniform(20), sigma=1.0)
    )
    sharded = jax.device_put(noise, jax.sharding.NamedSharding(mesh, jax.P("examples")))
    assert_close(jax.device_get(sample(sharded)), jax.device_get(sample(noise)), 1e-5)


@pytest.mark.parametrize("sigma", [-1.0, float("nan"), float("inf")])
def test_sigma_must_be_non_negative_and_finite(sigma):
    with pytest.raises(ValueError, match="sigma = "):
        sampling.sample_sde(
            jax.random.key(0), lambda x, t: x, PATH, jnp.ones((1, 1)), times.uniform(2), sigma=sigma
        )


def test_a_grid_must_have_a_step():
    with pytest.raises(ValueError, match=r"times has the shape \(1,\)"):
        sampling.sample_ode(lambda x, t: x, jnp.ones((1, 1)), jnp.zeros(1))


@pytest.mark.optimized
@pytest.mark.requirement("R13")
@pytest.mark.parametrize("name", ["brownian", "ornstein_uhlenbeck", "langevin"])
def test_classical_processes(name):
    """Brownian motion, an Ornstein-Uhlenbeck process and Langevin dynamics, after one unit of time."""
    start, grid, sigma, theta = jnp.full((N, 1), 2.0), times.uniform(200), 0.8, 1.5
    law = mixtures.Mixture(jnp.ones(1), jnp.ones((1, 1)), jnp.full((1, 1, 1), 0.5))
    drift = {
        "brownian": lambda x, t: jnp.zeros_like(x),
        "ornstein_uhlenbeck": lambda x, t: -theta * x,
        "langevin": lambda x, t: sigma**2 / 2 * mixtures.score(law, PATH, x, jnp.ones_like(t)),
    }[name]
    rate = {"brownian": 0.0, "ornstein_uhlenbeck": theta, "langevin": sigma**2 / 2 / 0.5}[name]
    centre = 1.0 if name == "langevin" else 0.0
    mean = centre + (2 - centre) * np.exp(-rate)
    variance = sigma**2 * (1 if rate == 0 else (1 - np.exp(-2 * rate)) / (2 * rate))
    x = jax.jit(lambda: sampling.simulate_sde(jax.random.key(0), drift, start, grid, sigma=sigma))()
    assert_moments(np.asarray(x)[:, 0], mean, variance, errors=6)


@pytest.mark.optimized
@pytest.mark.requirement("R8", "R13")
def test_langevin_dynamics_preserves_its_distribution():
    """u = 0, so the drift is sigma^2 / 2 times the score."""
    mixture = three_components()
    drift = lambda x, t: 0.5 * mixtures.score(mixture, PATH, x, jnp.ones_like(t))  # noqa: E731

    @jax.jit
    def walk():
        x, _ = mixtures.sample(jax.random.key(0), mixture, N)
        return x, sampling.simulate_sde(jax.random.key(1), drift, x, times.uniform(100), sigma=1.0)

    x, moved = map(np.asarray, walk())
    assert np.mean(np.linalg.norm(moved - x, axis=1)) > 0.5
    mean, covariance = moments(mixture)
    assert_expected(moved, mean, 6)
    assert_expected((moved - mean) ** 2, np.diag(covariance), 6)


@pytest.mark.requirement("R48")
def test_sigma_squared_2b_reverses_the_forward_process(float64):
    """Anderson: the reversal of dX = f X ds + g dW has, in our time, the drift a x + g^2 score, g^2 = 2b."""
    mixture = three_components()

    def both(path, x, t):
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        g2 = 2 * (d_alpha / alpha * beta**2 - d_beta * beta)  # d beta^2 / ds - 2 f beta^2, with s = 1 - t
        u, score = (f(mixture, path, x, t) for f in (mixtures.velocity, mixtures.score))
        found = sampling.reversal_sigma(path)(t)[:, None] ** 2, u + g2 / 2 * score
        return found, (g2, d_alpha / alpha * x + g2 * score)

    assert_pairs(by_path_compiled(both, normal(16, 2), linspace(0.2, 0.8, 16)), 1e-9)


@pytest.mark.requirement("R48")
def test_ancestral_step_is_the_exact_posterior():
    """With a single data point the predicted data are exact, and so is every step, long or short."""
    z, grid = jnp.array([[0.7]]), jnp.array([0.3, 0.6, *np.linspace(0.65, 0.9, 6)])

    def samples(path, noise):
        def field(x, t):
            start = (x - path.alpha(t)[:, None] * z) / path.beta(t)[:, None]
            return paths.conditional_velocity(path, jnp.broadcast_to(z, x.shape), start, t)

        start = path.alpha(grid[0]) * z + path.beta(grid[0]) * noise
        sample = partial(sampling.sample_ddpm, jax.random.key(1), field, path, start, grid, trajectory=True)
        points = jax.vmap(lambda eta: sample(eta=eta))(jnp.array([0.0, 0.6, 1.0]))
        return points[..., 0][:, [1, -1]], path.alpha(grid) * z[0], path.beta(grid)

    for points, mean, deviation in by_path_compiled(samples, normal(N, 1)).values():
        for of_eta in np.asarray(points):
            for n, x in zip((1, -1), of_eta, strict=True):
                assert_moments(x, float(mean[n]), float(deviation[n]) ** 2, errors=6)


def test_ddim_is_exact_where_the_predicted_data_do_not_change(float64):
    field = lambda x, t: (1.5 - x) / (1 - t)[:, None]  # noqa: E731  (all data are 1.5)
    noise = normal(8, 1)
    grid = jnp.array([0.0, 0.4])
    x = jax.jit(lambda: sampling.sample_ddpm(jax.random.key(1), field, PATH, noise, grid, eta=0.0))()
    assert_close(x, 0.4 * 1.5 + 0.6 * noise, 1e-12)


def test_inversion_leads_back_to_the_noise(float64):
    noise = normal(16, 2)
    field = lambda x, t: mixtures.velocity(three_components(), PATH, x, t)  # noqa: E731
    grid, rk4 = times.uniform(200), solvers.rk4()

    @jax.jit
    def there_and_back():
        data = sampling.sample_ode(field, noise, grid, solver=rk4)
        return sampling.invert_ode(field, data, grid, solver=rk4)

    assert_close(there_and_back(), noise, 1e-7)


def test_dense_output_passes_through_the_trajectory(float64):
    noise, field = normal(4, 2), lambda x, t: gaussian_velocity(PATH, x, t, 0.0, 0.5)
    exact = lambda t: noise * np.sqrt(0.5 * t**2 + (1 - t) ** 2)  # noqa: E731
    trajectory = adaptive.solution(field, noise, tolerance=1e-9)
    for t in (0.0, 0.185, 0.5, 1.0):
        assert_close(trajectory(jnp.array(t)), exact(t), 1e-6)
    back = adaptive.sample_ode(field, exact(1.0), start=1.0, end=0.0, tolerance=1e-10)
    assert_close(back, noise, 1e-7)


def test_adaptive_steps_have_a_tolerance_and_a_limit():
    field = lambda x, t: -x  # noqa: E731
    with pytest.raises(ValueError, match="tolerance = 0"):
        adaptive.sample_ode(field, jnp.ones((1, 2)), tolerance=0.0)
    with pytest.raises(RuntimeError, match="maximum number of solver steps"):
        adaptive.sample_ode(field, jnp.ones((1, 2)), tolerance=1e-6, max_steps=3)


def test_adaptive_steps_of_a_bfloat16_model_are_in_float32():
    def field(x, t):
        assert x.dtype == jnp.bfloat16
        return -x

    noise = jnp.ones((1, 1), jnp.bfloat16)
    assert_close(adaptive.sample_ode(field, noise).astype(jnp.float32), jnp.full((1, 1), jnp.exp(-1.0)), 5e-3)
    assert adaptive.solution(field, noise)(jnp.array(0.5)).dtype == jnp.bfloat16


@pytest.mark.parametrize("eta", [-0.1, 1.5, float("nan")])
def test_eta_must_be_in_0_1(eta):
    with pytest.raises(ValueError, match="eta = "):
        sampling.sample_ddpm(
            jax.random.key(0), lambda x, t: x, PATH, jnp.ones((1, 1)), times.uniform(2), eta=eta
        )


@pytest.mark.optimized
@pytest.mark.requirement("R8", "R12")
def test_weak_order_of_euler_maruyama():
    """The error in the variance of an Ornstein-Uhlenbeck process halves with the step."""
    n, exact = 2**19, (1 - np.exp(-2)) / 2
    steps, key, decay = [4, 8, 16], jax.random.key(0), lambda x, t: -x
    end = lambda count: sampling.simulate_sde(key, decay, jnp.zeros((n, 1)), count, sigma=1.0)  # noqa: E731
    errors = np.array(jax.jit(lambda: [jnp.mean(end(count) ** 2) for count in steps])()) - exact
    order = -np.polyfit(np.log(steps), np.log(np.abs(errors)), 1)[0]
    assert_below(abs(order - 1), 0.2)


def test_bfloat16_samples_gain_from_more_steps():
    """Steps are taken in float32: in bfloat16 short ones would be rounded away."""
    noise = normal(2000, 1).astype(jnp.bfloat16)

    def field(x, t):
        return gaussian_velocity(PATH, x.astype(jnp.float32), t, 0.0, 0.25).astype(x.dtype)

    x = sampling.sample_ode(field, noise, times.uniform(400), solver=solvers.euler())
    assert x.dtype == jnp.bfloat16
    assert_below(jnp.mean(jnp.abs(x.astype(jnp.float32) - noise.astype(jnp.float32) / 2)), 0.01)


def test_noise_is_added_up_to_a_grid_that_ends_before_the_data():
    """N(0, 1) stays N(0, 1) on the cosine path; without the noise of the last step the variance lacks h."""
    path, n, steps = paths.Cosine(), 100_000, 10
    noise, grid = normal(n, 1), jnp.linspace(0.0, 0.5, steps + 1)
    field = lambda x, t: gaussian_velocity(path, x, t, 0.0, 1.0)  # noqa: E731
    x = jax.jit(lambda: sampling.sample_sde(jax.random.key(1), field, path, noise, grid, sigma=1.0))()
    h, variance = 0.5 / steps, 1.0
    for _ in range(steps):  # of Euler-Maruyama: the velocity is 0 and the drift -x / 2
        variance = (1 - h / 2) ** 2 * variance + h
    assert_moments(x[:, 0], 0.0, variance, errors=6)


@pytest.mark.parametrize(
    ("grid", "says"),
    [([1.0, 0.5], "increase"), ([0.0, 0.0, 1.0], "increase"), ([0.0, 1.5], r"must be in \[0, 1\]")],
)
def test_grids_of_an_sde_must_increase_in_0_1(grid, says):
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
        assert_close(*jax.jit(lambda sample=sample: (sample(times=5), sample(times=grid)))(), 0)


@pytest.mark.parametrize("wrong", [lambda x: x[:, 0], lambda x: jnp.sum(x)], ids=["(b,)", "scalar"])
def test_a_field_of_another_shape_is_rejected(wrong):
    noise, field = jnp.ones((3, 1)), lambda x, t: wrong(x)
    for sample in (
        lambda: sampling.sample_ode(field, noise, 2),
        lambda: sampling.sample_sde(
            jax.random.key(0), lambda x, t: x, PATH, noise, 2, sigma=1.0, score=field
        ),
    ):
        with pytest.raises(ValueError, match=r"returned shape \((3,)?\) for x of shape \(3, 1\)"):
            sample()


@pytest.mark.requirement("R48")
def test_a_given_score_replaces_the_score_of_the_field(float64):
    """The exact score changes nothing; with a score of 0 the SDE is u dt + sigma dW."""
    noise, field = normal(8, 2), gaussian_field(PATH)

    def score(x, t):
        alpha, beta = PATH.alpha(t)[:, None], PATH.beta(t)[:, None]
        return -(x - alpha) / (alpha**2 / 2 + beta**2)

    grid = times.uniform(11)[:-1]
    sample = partial(sampling.sample_sde, jax.random.key(1), field, PATH, noise, grid, sigma=0.8)
    assert_close(*jax.jit(lambda: (sample(score=score), sample()))(), 1e-10)
    plain = lambda: sampling.simulate_sde(jax.random.key(1), field, noise, grid, sigma=0.8)  # noqa: E731
    assert_close(*jax.jit(lambda: (sample(score=lambda x, t: jnp.zeros_like(x)), plain()))(), 1e-12)


VANISHING = paths.from_functions(lambda t: t**2, lambda t: 1 - t**2)  # both slopes are 0 at t = 0
TERMINAL = paths.DDPM(jnp.concatenate([jnp.linspace(0.01, 0.5, 19), jnp.ones(1)]))  # alpha(0) = 0


@pytest.mark.requirement("R8")
@pytest.mark.parametrize("path", [VANISHING, TERMINAL], ids=["vanishing", "terminal"])
def test_the_sde_starts_on_degenerate_paths(path):
    """From t = 0, where the slopes vanish or a table has alpha = 0, to the distribution of the data."""
    noise, key, grid = normal(N // 2, 1), jax.random.key(1), times.uniform(200)
    sample = partial(sampling.sample_sde, key, gaussian_field(path), path, noise, grid, sigma=0.5)
    both = jax.jit(lambda: [sample(solver=s) for s in (solvers.euler_maruyama, solvers.stochastic_heun)])
    for x in np.asarray(both()):
        assert_moments(x[:, 0], 1.0, 0.5, errors=6)


@pytest.mark.parametrize("path", [VANISHING, TERMINAL], ids=["vanishing", "terminal"])
def test_samplers_of_predicted_data_start_where_they_are_determined(path):
    """All data are one point: every sampler reaches it, from the first time that determines it."""
    z = jnp.array([[0.7]])

    def field(x, t):
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        return d_alpha * z + d_beta * (x - alpha * z) / beta

    noise, key = normal(64, 1), jax.random.key(1)
    grid = times.uniform(20)[0 if path is TERMINAL else 1 :]

    @jax.jit
    def samples():
        ancestral = lambda eta: sampling.sample_ddpm(key, field, path, noise, grid, eta=eta)  # noqa: E731
        multistep = sampling.sample_ode(field, noise, grid, solver=solvers.dpm_solver_2m(path))
        return ancestral(1.0), ancestral(0.0), multistep

    for x in samples():
        assert_close(x, jnp.broadcast_to(z, x.shape), 1e-5)


def test_undetermined_starts_are_rejected():
    """Before the field is called: the data where the slopes vanish, an infinite sigma."""
    noise, key = jnp.ones((1, 1)), jax.random.key(0)

    def field(x, t):
        raise AssertionError("called")

    for sample in (
        lambda: sampling.sample_ddpm(key, field, VANISHING, noise, 20),
        lambda: jax.jit(lambda: sampling.sample_ddpm(key, field, VANISHING, noise, 20, eta=0))(),
        lambda: sampling.sample_ode(field, noise, 20, solver=solvers.dpm_solver_2m(VANISHING)),
    ):
        with pytest.raises(ValueError, match=r"t = 0 on path = .* does not determine the data; start"):
            sample()
    turning = paths.from_functions(lambda t: (2 * t - 1) ** 3 / 2 + 0.5, lambda t: 0.5 - (2 * t - 1) ** 3 / 2)
    with pytest.raises(ValueError, match=r"t = 0\.5 on path = .* does not determine the noise"):
        sampling.sample_sde(key, field, turning, noise, 2, sigma=1.0)
    for path in (PATH, VANISHING):
        with pytest.raises(ValueError, match=r"sigma\(0\) = (inf|nan): .*start times later"):
            sampling.sample_sde(key, field, path, noise, 20, sigma=sampling.reversal_sigma(path))
