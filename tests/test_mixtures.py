from itertools import pairwise

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, assert_expected, three_components

from jaxflow import mixtures, paths

LABELS = [None, 0, 1, 2, 3]  # 3 is null


def points(n=32):
    x = jax.random.normal(jax.random.key(0), (n, 2))
    return x, jnp.linspace(0.05, 0.95, n)


def labels(label, n):
    return None if label is None else jnp.full(n, label)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.requirement("R6")
def test_score_is_the_gradient_of_the_log_density(path, label, float64):
    x, t = points()
    y, mixture = labels(label, len(t)), three_components()
    gradient = jax.grad(lambda x: mixtures.log_prob(mixture, path, x, t, y).sum())(x)
    assert_close(mixtures.score(mixture, path, x, t, y), gradient, 1e-10)


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.requirement("R7")
def test_continuity_equation(path, label, float64):
    """d/dt log p + div u + u . grad log p = 0."""
    x, t = points()
    y, mixture = labels(label, len(t)), three_components()
    log_prob = lambda x, t: mixtures.log_prob(mixture, path, x, t, y)  # noqa: E731
    velocity = lambda x: mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
    _, change = jax.jvp(lambda t: log_prob(x, t), (t,), (jnp.ones_like(t),))
    divergence = sum(
        jax.jvp(velocity, (x,), (jnp.zeros_like(x).at[:, i].set(1.0),))[1][:, i] for i in range(2)
    )
    transport = jnp.sum(velocity(x) * jax.grad(lambda x: log_prob(x, t).sum())(x), axis=-1)
    scale = 1 + jnp.abs(change) + jnp.abs(divergence) + jnp.abs(transport)
    assert_close((change + divergence + transport) / scale, jnp.zeros(len(t)), 1e-10)


@pytest.mark.parametrize("label", [None, 0])
@pytest.mark.requirement("R6")
def test_denoiser_is_the_posterior_mean_by_quadrature(path, label, float64):
    mixture = mixtures.Mixture(
        jnp.array([0.3, 0.7]), jnp.array([[1.0], [-0.5]]), jnp.array([[[0.2]], [[0.4]]])
    )
    x, t = jnp.array([[0.4], [-1.0]]), jnp.array([0.3, 0.8])
    z = jnp.linspace(-8, 8, 40_001)
    means, variances = mixture.means[:, 0], mixture.covariances[:, 0, 0]
    density = jax.scipy.stats.norm.pdf(z[:, None], means[None], jnp.sqrt(variances)[None])
    prior = density[:, 0] if label == 0 else jnp.sum(density * mixture.weights[None], axis=1)
    likelihood = jax.scipy.stats.norm.pdf(x, path.alpha(t)[:, None] * z[None], path.beta(t)[:, None])
    weights = likelihood * prior[None]
    expected = jnp.sum(weights * z[None], axis=1) / jnp.sum(weights, axis=1)
    assert_close(mixtures.denoise(mixture, path, x, t, labels(label, 2))[:, 0], expected, 1e-10)


@pytest.mark.requirement("R29")
def test_classifier_is_bayes_rule(path, float64):
    x, t = points()
    mixture = three_components()
    joint = jnp.stack(
        [
            jnp.log(mixture.weights[k]) + mixtures.log_prob(mixture, path, x, t, jnp.full(len(t), k))
            for k in range(3)
        ],
        axis=-1,
    )
    expected = joint - mixtures.log_prob(mixture, path, x, t)[:, None]
    assert_close(mixtures.class_log_prob(mixture, path, x, t), expected, 1e-11)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_finite_at_both_ends(name, float64):
    path = {"linear": paths.Linear(), "cosine": paths.Cosine()}[name]
    mixture, x = three_components(), points(4)[0]
    start = mixtures.velocity(mixture, path, x, jnp.zeros(4))
    c = paths.coefficients(path, jnp.zeros(4))
    mean = mixture.weights @ mixture.means
    assert_close(start, c.d_alpha[:, None] * mean[None] + c.d_beta[:, None] * x, 1e-12)
    assert jnp.all(jnp.isfinite(mixtures.velocity(mixture, path, x, jnp.ones(4))))


def test_samples_have_the_moments():
    mixture = three_components()
    data, y = mixtures.sample(jax.random.key(0), mixture, 200_000)
    for k in range(3):
        centred = data[y == k] - mixture.means[k][None]
        assert_expected(centred, np.zeros(2), 6)
        assert_expected(centred[:, :, None] * centred[:, None, :], mixture.covariances[k], 6)
    assert_expected(jax.nn.one_hot(y, 3), mixture.weights, 6)


def test_bridge_from_a_standard_normal_is_the_linear_path(float64):
    normal = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    x, t = points()
    bridge = mixtures.bridge_velocity(normal, three_components(), x, t)
    assert_close(bridge, mixtures.velocity(three_components(), paths.Linear(), x, t), 1e-10)


@pytest.mark.requirement("R14")
def test_bridge_is_the_posterior_mean_of_the_speed(float64):
    """E[data - noise | x_t = x] between two mixtures in one dimension, by quadrature."""
    one = mixtures.Mixture(jnp.array([0.4, 0.6]), jnp.array([[-1.0], [0.5]]), jnp.array([[[0.3]], [[0.1]]]))
    two = mixtures.Mixture(jnp.array([0.7, 0.3]), jnp.array([[2.0], [-1.5]]), jnp.array([[[0.2]], [[0.4]]]))
    x, t = jnp.array([[0.3], [-0.8], [1.1]]), jnp.array([0.2, 0.5, 0.9])
    noise = jnp.linspace(-6, 6, 20_001)

    def density(mixture, z):
        normal = jax.scipy.stats.norm.pdf(
            z[..., None], mixture.means[:, 0], jnp.sqrt(mixture.covariances[:, 0, 0])
        )
        return normal @ mixture.weights

    with jax.numpy_rank_promotion("allow"):
        data = (x - (1 - t[:, None]) * noise) / t[
            :, None
        ]  # the end of the line through x that begins at noise
        weights = density(one, noise) * density(two, data)
        expected = jnp.sum(weights * (data - noise), axis=1) / jnp.sum(weights, axis=1)
    assert_close(mixtures.bridge_velocity(one, two, x, t)[:, 0], expected, 1e-9)


@pytest.mark.requirement("R1")
@pytest.mark.parametrize("label", [None, 1])
def test_marginals_are_the_noise_and_the_data_at_the_ends(path, label, float64):
    x, mixture = points()[0], three_components()
    y = labels(label, len(x))
    with jax.numpy_rank_promotion("allow"):
        normal = jax.scipy.stats.multivariate_normal.logpdf
        noise = normal(x, jnp.zeros(2), jnp.eye(2))
        components = [normal(x, m, c) for m, c in zip(mixture.means, mixture.covariances, strict=True)]
        marginal = jax.nn.logsumexp(jnp.log(mixture.weights)[:, None] + jnp.stack(components), axis=0)
    data = marginal if label is None else components[label]
    # Diffusions stop a little short of the noise: alpha(0) = 0.0066 for both of them.
    bound = 1e-10 if float(path.alpha(jnp.zeros(()))) == 0 else 0.05
    assert_close(mixtures.log_prob(mixture, path, x, jnp.zeros(32), y), noise, bound)
    assert_close(mixtures.log_prob(mixture, path, x, jnp.ones(32), y), data, 1e-10)


@pytest.mark.requirement("R7", "R8")
@pytest.mark.parametrize("sigma", [0.5, 2.0])
@pytest.mark.parametrize("label", [None, 0])
def test_fokker_planck_equation(path, sigma, label, float64):
    """d/dt log p + div f + f . s = sigma^2 / 2 (laplacian log p + |s|^2), f = u + sigma^2 / 2 s."""
    x, t = points()
    y, mixture = labels(label, len(t)), three_components()
    log_prob = lambda x, t: mixtures.log_prob(mixture, path, x, t, y)  # noqa: E731
    gradient = jax.grad(lambda x: log_prob(x, t).sum())

    def drift(x):
        u, s = (f(mixture, path, x, t, y) for f in (mixtures.velocity, mixtures.score))
        return u + sigma**2 / 2 * s

    def divergence(f):
        basis = (jnp.zeros_like(x).at[:, i].set(1.0) for i in range(2))
        return sum(jax.jvp(f, (x,), (e,))[1][:, i] for i, e in enumerate(basis))

    _, change = jax.jvp(lambda t: log_prob(x, t), (t,), (jnp.ones_like(t),))
    transport = jnp.sum(drift(x) * gradient(x), axis=-1)
    diffusion = sigma**2 / 2 * (divergence(gradient) + jnp.sum(gradient(x) ** 2, axis=-1))
    terms = (change, divergence(drift), transport, -diffusion)
    scale = 1 + sum(jnp.abs(term) for term in terms)
    assert_close(sum(terms) / scale, jnp.zeros(len(t)), 1e-10)


@pytest.mark.requirement("R6")
@pytest.mark.parametrize("label", [None, 0])
def test_velocity_and_score_are_averages_of_the_conditional_ones(path, label, float64):
    """Over the posterior of the data given x_t = x, by quadrature."""
    mixture = mixtures.Mixture(
        jnp.array([0.3, 0.7]), jnp.array([[1.0], [-0.5]]), jnp.array([[[0.2]], [[0.4]]])
    )
    x, t = jnp.array([[0.4], [-1.0]]), jnp.array([0.3, 0.8])
    z = jnp.linspace(-8, 8, 40_001)
    density = jax.scipy.stats.norm.pdf(
        z[:, None], mixture.means[None, :, 0], jnp.sqrt(mixture.covariances[None, :, 0, 0])
    )
    prior = density[:, 0] if label == 0 else density @ mixture.weights
    y = labels(label, 2)
    for i in range(2):
        alone, time = x[i : i + 1], jnp.full(len(z), t[i])
        noise = ((alone[0] - path.alpha(t[i]) * z) / path.beta(t[i]))[:, None]
        weights = prior * jax.scipy.stats.norm.pdf(noise[:, 0])
        weights = weights / weights.sum()
        for function, conditional in (
            (mixtures.velocity, paths.conditional_velocity(path, z[:, None], noise, time)),
            (mixtures.score, paths.conditional_score(path, noise, time)),
        ):
            exact = function(mixture, path, alone, t[i : i + 1], None if y is None else y[:1])
            assert_close(exact[0, 0], jnp.sum(weights * conditional[:, 0]), 1e-10)


@pytest.mark.requirement("R28")
@pytest.mark.parametrize("precise", [True, False])
def test_velocity_is_an_affine_function_of_the_score(path, precise):
    """u(x | y) = a x + b grad log p_t(x | y): the error relative to the terms, which cancel as t -> 0."""
    with jax.enable_x64(precise):
        x, mixture = points()[0], three_components()
        t, y = jnp.linspace(0.001, 0.999, len(x)), jnp.arange(len(x)) % 4
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        linear = d_alpha / alpha * x
        b = (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        from_score = b * mixtures.score(mixture, path, x, t, y)
        velocity = mixtures.velocity(mixture, path, x, t, y)
        scale = 1 + jnp.abs(linear) + jnp.abs(from_score)
        assert_close((linear + from_score - velocity) / scale, jnp.zeros_like(x), 1e-10 if precise else 1e-5)


@pytest.mark.requirement("R29", "R30", "R33")
@pytest.mark.parametrize("precise", [True, False])
def test_each_line_of_the_classifier_free_derivation(path, precise):
    """From u(x) + w b grad log p(y | x) to (1 - w) u(x) + w u(x | y), relative to the terms."""
    with jax.enable_x64(precise):
        x, mixture, w = points()[0], three_components(), 3.5
        t, y = jnp.linspace(0.001, 0.999, len(x)), jnp.arange(len(x)) % 3
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        a, b = d_alpha / alpha, (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        velocity = lambda y: mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        score = lambda y: mixtures.score(mixture, path, x, t, y)  # noqa: E731

        def log_posterior(x):
            table = mixtures.class_log_prob(mixture, path, x, t)
            return jnp.sum(jnp.take_along_axis(table, y[:, None], axis=1))

        lines = [
            velocity(None) + w * b * jax.grad(log_posterior)(x),
            velocity(None) + w * b * (score(y) - score(None)),
            velocity(None) - (w * a * x + w * b * score(None)) + (w * a * x + w * b * score(y)),
            velocity(None) - w * velocity(None) + w * velocity(y),
            (1 - w) * velocity(None) + w * velocity(y),
        ]
        scale = 1 + jnp.abs(w * a * x) + jnp.abs(w * b * score(y)) + jnp.abs(w * b * score(None))
        for line, following in pairwise(lines):
            assert_close((line - following) / scale, jnp.zeros_like(x), 1e-12 if precise else 1e-5)


@pytest.mark.requirement("R1", "R6")
def test_everything_is_finite_in_float32_up_to_both_ends(path):
    """Where a path has an infinite slope or no alpha(0) = 0, as close to the end as a float can be told."""
    x, mixture = points(8)[0], three_components()
    ends = [0.0, 1.0 - 2.0**-24] if jnp.isinf(paths.coefficients(path, jnp.ones(())).d_beta) else [0.0, 1.0]
    for end in ends:
        for function in (mixtures.velocity, mixtures.score, mixtures.denoise):
            assert jnp.all(jnp.isfinite(function(mixture, path, x, jnp.full(8, end))))


@pytest.mark.parametrize("t", [0.25, 1, jnp.array(0.25)])
def test_one_time_for_all(t):
    mixture, x, each = three_components(), points(4)[0], jnp.full(4, t, jnp.float32)
    for name in ("velocity", "score", "denoise", "log_prob", "class_log_prob"):
        at = lambda t: getattr(mixtures, name)(mixture, paths.Linear(), x, t)  # noqa: B023, E731
        assert_close(at(t), at(each), 0)
    bridge = lambda t: mixtures.bridge_velocity(mixture, mixture, x, t)  # noqa: E731
    assert_close(bridge(t), bridge(each), 0)
