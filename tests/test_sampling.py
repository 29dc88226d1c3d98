import chex
import diffrax
import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import guidance, mixtures, paths, per_example, sampling, solvers, times

PATH = paths.Linear()


def guided_gaussian_pair(w, n):
    """The field of O2: unguided data N(0, 2), data N(1, 1) given y, guided with w."""
    unguided = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 1)), jnp.full((1, 1, 1), 2.0))
    given = mixtures.Mixture(jnp.ones(1), jnp.ones((1, 1)), jnp.ones((1, 1, 1)))

    def field(x, t, y):
        law = jnp.where((y == 0)[:, None], *(mixtures.velocity(m, PATH, x, t) for m in (given, unguided)))
        return law

    return guidance.classifier_free(field, jnp.zeros(n, jnp.int32), jnp.array(1), w)


def assert_moments(x, mean, variance, errors):
    """Within so many standard errors of a Gaussian sample: sqrt(v / n) and v sqrt(2 / n)."""
    n = x.shape[0]
    assert abs(x.mean() - mean) < errors * (variance / n) ** 0.5
    assert abs(x.var() - variance) < errors * variance * (2 / n) ** 0.5


N = 20_000
ROW_OF_W_3 = {  # sigma -> mean, variance at the data end
    "ode": (2.0, 0.25),
    "sigma = 1": (1.7441, 0.4173),
    "sigma^2 = 2b": (1.75, 0.3875),
    "large sigma": (1.5, 0.5),
}


@pytest.mark.parametrize("name", ROW_OF_W_3)
def test_guided_gaussian_pair_at_w_3(name, float64):
    """O2 at w = 3: flow and diffusion end in different laws, each known in closed form."""
    noise = jax.random.normal(jax.random.key(3), (N, 1))
    field = guided_gaussian_pair(3.0, N)
    if name == "ode":
        x = sampling.sample_ode(field, noise, times.uniform(100), solver=solvers.rk4())
    else:
        # b = (1 - t) / t is infinite at t = 0, where a grid of constant ratio begins a little later.
        from_later = jnp.concatenate([jnp.geomspace(1e-3, 0.5, 500), 1 - jnp.geomspace(0.5, 1e-3, 500)[1:]])
        sigma, grid = {
            "sigma = 1": (1.0, times.uniform(1000)),
            "sigma^2 = 2b": (lambda t: jnp.sqrt(2 * (1 - t) / t), jnp.append(from_later, 1.0)),
            "large sigma": (lambda t: 20 * jnp.sqrt(1 - t), 1 - (1 - times.uniform(4000)) ** 2),
        }[name]
        x = sampling.sample_sde(jax.random.key(4), field, PATH, noise, grid, sigma=sigma)
    assert_moments(x[:, 0], *ROW_OF_W_3[name], errors=3)


@pytest.mark.parametrize("w", [0.0, 1.0])
def test_flow_and_diffusion_agree_without_extrapolation(w, float64):
    noise = jax.random.normal(jax.random.key(5), (N, 1))
    field = guided_gaussian_pair(w, N)
    expected = (0.0, 2.0) if w == 0 else (1.0, 1.0)
    assert_moments(sampling.sample_ode(field, noise, times.uniform(100))[:, 0], *expected, errors=5)
    sde = sampling.sample_sde(jax.random.key(6), field, PATH, noise, times.uniform(1000), sigma=1.0)
    assert_moments(sde[:, 0], *expected, errors=5)


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
    assert jnp.all(jnp.abs(x.mean(axis=0) - mean) < 4 * jnp.sqrt(jnp.diag(covariance) / n))
    # Fourth moments of the mixture are below three times its squared variance: 4 sqrt(3 / n) = 0.035.
    assert_close(jnp.cov(x.T), covariance, 0.035)


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
    reference = diffrax.diffeqsolve(
        diffrax.ODETerm(lambda t, x, _: guided(x, jnp.full(16, t))),
        diffrax.Dopri8(),
        t0=0.0,
        t1=1.0,
        dt0=0.01,
        y0=noise,
        stepsize_controller=diffrax.PIDController(rtol=1e-10, atol=1e-10),
    )
    ours = sampling.sample_ode(guided, noise, times.uniform(400), solver=solvers.rk4())
    assert_close(ours, reference.ys[0], 1e-7)


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
    with pytest.raises(ValueError, match="times has 1"):
        sampling.sample_ode(lambda x, t: x, jnp.ones((1, 1)), jnp.zeros(1))
