import itertools
from itertools import pairwise

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import (
    PATHS,
    assert_close,
    assert_expected,
    by_path,
    linspace,
    normal,
    on_all_paths,
    three_components,
)
from scipy.special import logsumexp
from scipy.stats import multivariate_normal, norm

from jaxflow import mixtures, paths

Y = np.arange(16) % 4
"""Each label in turn; 3 is null."""


def points(n=16):
    return normal(n, 2), linspace(0.05, 0.95, n)


def by_case(f, *arrays):
    """f(path, y, *arrays) for each path, without labels and with `Y`, by name."""
    cases = itertools.product(PATHS.items(), {"": None, ", given y": jnp.asarray(Y)}.items())
    return {f"{name}{kind}": f(path, y, *arrays) for (name, path), (kind, y) in cases}


@pytest.mark.requirement("R6")
def test_score_is_the_gradient_of_the_log_density(float64):
    x, t = points()

    def both(path, y):
        mixture = three_components()
        gradient = jax.grad(lambda x: mixtures.log_prob(mixture, path, x, t, y).sum())(x)
        return mixtures.score(mixture, path, x, t, y), gradient

    for y in (None, jnp.asarray(Y)):
        assert_close(*on_all_paths(lambda path, y=y: both(path, y), t), 1e-10)


@pytest.mark.requirement("R7")
def test_continuity_equation(float64):
    """d/dt log p + div u + u . grad log p = 0."""

    x, t = points()

    def residual(path, y):
        mixture = three_components()
        log_prob = lambda x, t: mixtures.log_prob(mixture, path, x, t, y)  # noqa: E731
        velocity = lambda x: mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        _, change = jax.jvp(lambda t: log_prob(x, t), (t,), (jnp.ones_like(t),))
        transport = jnp.sum(velocity(x) * jax.grad(lambda x: log_prob(x, t).sum())(x), axis=-1)
        terms = (change, divergence(velocity, x), transport)
        return sum(terms) / (1 + sum(map(jnp.abs, terms)))

    for y in (None, jnp.asarray(Y)):
        found = on_all_paths(lambda path, y=y: residual(path, y), t)
        assert_close(found, np.zeros_like(found), 1e-10)


def divergence(f, x):
    basis = (jnp.zeros_like(x).at[:, i].set(1.0) for i in range(2))
    return sum(jax.jvp(f, (x,), (e,))[1][:, i] for i, e in enumerate(basis))


# Of one dimension, for quadratures over the data.
LINE = ([0.3, 0.7], [[1.0], [-0.5]], [[[0.2]], [[0.4]]])
LINE_X, LINE_T = [[0.4], [-1.0]], [0.3, 0.8]


def on_the_line():
    """The mixture, x, t, nodes z and the densities of the data there: marginal, and given label 0."""
    mixture = mixtures.Mixture(*map(jnp.array, LINE))
    z = np.linspace(-8, 8, 40_001)
    parts = norm.pdf(z[:, None], np.array(LINE[1])[:, 0], np.sqrt(np.array(LINE[2])[:, 0, 0]))
    return mixture, jnp.array(LINE_X), jnp.array(LINE_T), z, {None: parts @ np.array(LINE[0]), 0: parts[:, 0]}


@pytest.mark.requirement("R6")
def test_denoiser_is_the_posterior_mean_by_quadrature(float64):
    mixture, x, t, z, priors = on_the_line()
    for label, prior in priors.items():
        y = None if label is None else jnp.zeros(2, int)

        def found(path, x, t, y=y):
            return mixtures.denoise(mixture, path, x, t, y)[:, 0], path.alpha(t), path.beta(t)

        for name, (denoised, alpha, beta) in by_path(found, x, t).items():
            weights = norm.pdf(np.asarray(x), np.outer(alpha, z), np.asarray(beta)[:, None]) * prior
            assert_close({name: denoised}, {name: weights @ z / weights.sum(axis=1)}, 1e-10)


@pytest.mark.requirement("R29")
def test_classifier_is_bayes_rule(float64):
    def both(path):
        mixture, x, t = three_components(), normal(16, 2), path.t
        given = [mixtures.log_prob(mixture, path, x, t, jnp.full(len(t), k)) for k in range(3)]
        joint = jnp.stack(given, axis=-1) + jnp.log(mixture.weights)[None]
        table = mixtures.class_log_prob(mixture, path, x, t)
        return table, joint - mixtures.log_prob(mixture, path, x, t)[:, None]

    assert_close(*on_all_paths(both, points()[1]), 1e-11)


@pytest.mark.parametrize("name", ["linear", "cosine"])
def test_finite_at_both_ends(name, float64):
    path = {"linear": paths.Linear(), "cosine": paths.Cosine()}[name]
    mixture, x = three_components(), points(4)[0]
    start = mixtures.velocity(mixture, path, x, jnp.zeros(4))
    c = paths.coefficients(path, jnp.zeros(4))
    mean = mixture.weights @ mixture.means
    assert_close(start, c.d_alpha[:, None] * mean[None] + c.d_beta[:, None] * x, 1e-12)
    assert jnp.all(jnp.isfinite(mixtures.velocity(mixture, path, x, jnp.ones(4))))


def test_samples_have_the_exact_moments():
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

    @jax.jit
    def both():
        bridge = mixtures.bridge_velocity(normal, three_components(), x, t)
        return bridge, mixtures.velocity(three_components(), paths.Linear(), x, t)

    assert_close(*both(), 1e-10)


@pytest.mark.requirement("R14")
def test_bridge_is_the_posterior_mean_of_the_speed(float64):
    """E[data - noise | x_t = x] between two mixtures in one dimension, by quadrature."""
    one = mixtures.Mixture(jnp.array([0.4, 0.6]), jnp.array([[-1.0], [0.5]]), jnp.array([[[0.3]], [[0.1]]]))
    two = mixtures.Mixture(jnp.array([0.7, 0.3]), jnp.array([[2.0], [-1.5]]), jnp.array([[[0.2]], [[0.4]]]))
    x, t = np.array([[0.3], [-0.8], [1.1]]), np.array([0.2, 0.5, 0.9])
    noise = np.linspace(-6, 6, 20_001)

    def density(mixture, z):
        weights, means, variances = map(np.asarray, (mixture.weights, mixture.means, mixture.covariances))
        return norm.pdf(z[..., None], means[:, 0], np.sqrt(variances[:, 0, 0])) @ weights

    data = (x - (1 - t[:, None]) * noise) / t[:, None]  # where the line from the noise through x ends
    weights = density(one, noise) * density(two, data)
    expected = np.sum(weights * (data - noise), axis=1) / np.sum(weights, axis=1)
    found = jax.jit(mixtures.bridge_velocity)(one, two, jnp.asarray(x), jnp.asarray(t))
    assert_close(found[:, 0], expected, 1e-9)


@pytest.mark.requirement("R1")
def test_marginals_are_the_noise_and_the_data_at_the_ends(float64):
    x, mixture = points()[0], three_components()
    weights, means, covariances = map(np.asarray, (mixture.weights, mixture.means, mixture.covariances))
    log_density = multivariate_normal.logpdf
    noise = log_density(x, np.zeros(2), np.eye(2))
    components = [log_density(x, m, c) for m, c in zip(means, covariances, strict=True)]
    marginal = logsumexp(np.log(weights)[:, None] + np.stack(components), axis=0)

    def ends(path, y, x):
        at = lambda t: mixtures.log_prob(mixture, path, x, jnp.full(len(x), t), y)  # noqa: E731
        return at(0.0), at(1.0)

    for name, (start, end) in by_case(ends, x).items():
        # Diffusions end just short of pure noise: both have alpha(0) = 0.0066.
        bound = 0.05 if name.startswith(("variance_preserving", "ddpm")) else 1e-10
        assert_close({name: start}, {name: noise}, bound)
        data = np.stack([*components, marginal])[Y, np.arange(16)] if "given" in name else marginal
        assert_close({name: end}, {name: data}, 1e-10)


@pytest.mark.requirement("R7", "R8")
def test_fokker_planck_equation(float64):
    """d/dt log p + div f + f . s = sigma^2 / 2 (laplacian log p + |s|^2), f = u + sigma^2 / 2 s."""

    x, t = points()

    def residuals(path, y):
        mixture = three_components()
        log_prob = lambda x, t: mixtures.log_prob(mixture, path, x, t, y)  # noqa: E731
        gradient = jax.grad(lambda x: log_prob(x, t).sum())
        _, change = jax.jvp(lambda t: log_prob(x, t), (t,), (jnp.ones_like(t),))
        velocity, score = (
            lambda x, f=f: f(mixture, path, x, t, y) for f in (mixtures.velocity, mixtures.score)
        )
        u, s, g = velocity(x), score(x), gradient(x)
        of_u, of_s, laplacian = (divergence(f, x) for f in (velocity, score, gradient))
        found = []
        for half in (0.125, 2.0):  # sigma^2 / 2
            transport = jnp.sum((u + half * s) * g, axis=-1)
            diffusion = half * (laplacian + jnp.sum(g**2, axis=-1))
            terms = (change, of_u + half * of_s, transport, -diffusion)
            found.append(sum(terms) / (1 + sum(map(jnp.abs, terms))))
        return found

    for y in (None, jnp.asarray(Y)):
        found = on_all_paths(lambda path, y=y: residuals(path, y), t)
        assert_close(found, jax.tree.map(np.zeros_like, found), 1e-10)


@pytest.mark.requirement("R6")
def test_velocity_and_score_are_averages_of_the_conditional_ones(float64):
    """Over the posterior of the data given x_t = x, by quadrature."""
    mixture, points, t, z, priors = on_the_line()
    labels = None, jnp.zeros(1, int)

    for x, time in zip(points, t, strict=True):

        def both(path, x=x):
            noise = ((x - path.alpha(path.t) * z) / path.beta(path.t))[:, None]
            weights = [prior * jax.scipy.stats.norm.pdf(noise[:, 0]) for prior in priors.values()]
            times = jnp.broadcast_to(path.t, z.shape)
            velocity = paths.conditional_velocity(path, jnp.asarray(z)[:, None], noise, times)[:, 0]
            score = paths.conditional_score(path, noise, times)[:, 0]
            average = [[jnp.sum(w * v) / jnp.sum(w) for v in (velocity, score)] for w in weights]
            of = lambda y: [f(mixture, path, x[None], path.t, y) for f in (mixtures.velocity, mixtures.score)]  # noqa: E731
            return jnp.array([of(y) for y in labels])[..., 0, 0], jnp.array(average)

        assert_close(*on_all_paths(both, time[None]), 1e-10)


@pytest.mark.requirement("R28")
@pytest.mark.parametrize("precise", [True, False])
def test_velocity_is_an_affine_function_of_the_score(precise):
    """u(x | y) = a x + b grad log p_t(x | y), relative to the terms, which cancel as t -> 0."""

    def residual(path):
        mixture, x, t, y = three_components(), normal(16, 2), path.t, jnp.asarray(Y)
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        linear = d_alpha / alpha * x
        b = (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        from_score = b * mixtures.score(mixture, path, x, t, y)
        velocity = mixtures.velocity(mixture, path, x, t, y)
        scale = 1 + jnp.abs(linear) + jnp.abs(from_score)
        return (linear + from_score - velocity) / scale

    with jax.enable_x64(precise):
        found = on_all_paths(residual, linspace(0.001, 0.999, 16))
        assert_close(found, np.zeros_like(found), 1e-10 if precise else 1e-5)


@pytest.mark.requirement("R29", "R30", "R33")
@pytest.mark.parametrize("precise", [True, False])
def test_each_line_of_the_classifier_free_derivation(precise):
    """From u(x) + w b grad log p(y | x) to (1 - w) u(x) + w u(x | y), relative to the terms."""

    def residuals(path):
        mixture, w = three_components(), 3.5
        x, t, y = normal(16, 2), path.t, jnp.asarray(np.arange(16) % 3)
        alpha, beta, d_alpha, d_beta = (c[:, None] for c in paths.coefficients(path, t))
        a, b = d_alpha / alpha, (d_alpha * beta**2 - d_beta * beta * alpha) / alpha
        u, u_y = (mixtures.velocity(mixture, path, x, t, label) for label in (None, y))
        s, s_y = (mixtures.score(mixture, path, x, t, label) for label in (None, y))

        def log_posterior(x):
            table = mixtures.class_log_prob(mixture, path, x, t)
            return jnp.sum(jnp.take_along_axis(table, y[:, None], axis=1))

        lines = [
            u + w * b * jax.grad(log_posterior)(x),
            u + w * b * (s_y - s),
            u - (w * a * x + w * b * s) + (w * a * x + w * b * s_y),
            u - w * u + w * u_y,
            (1 - w) * u + w * u_y,
        ]
        scale = 1 + jnp.abs(w * a * x) + jnp.abs(w * b * s_y) + jnp.abs(w * b * s)
        return [(line - following) / scale for line, following in pairwise(lines)]

    with jax.enable_x64(precise):
        found = on_all_paths(residuals, linspace(0.001, 0.999, 16))
        assert_close(found, jax.tree.map(np.zeros_like, found), 1e-12 if precise else 1e-5)


@pytest.mark.requirement("R1", "R6")
def test_everything_is_finite_in_float32_up_to_both_ends():
    """Up to the last float before the end where the path has an infinite slope."""
    mixture = three_components()

    def values(path, x):
        last = jnp.where(jnp.isinf(paths.coefficients(path, jnp.ones(())).d_beta), 1.0 - 2.0**-24, 1.0)
        functions = (mixtures.velocity, mixtures.score, mixtures.denoise)
        return [f(mixture, path, x, jnp.full(16, end)) for f in functions for end in (0.0, last)]

    chex.assert_tree_all_finite(by_path(values, normal(16, 2)))


@pytest.mark.parametrize("t", [0.25, 1, jnp.array(0.25)])
def test_a_single_time_serves_the_whole_batch(t):
    mixture, x, each = three_components(), points()[0], jnp.full(16, t, jnp.float32)
    for name in ("velocity", "score", "denoise", "log_prob", "class_log_prob"):
        at = lambda t: getattr(mixtures, name)(mixture, paths.Linear(), x, t)  # noqa: B023, E731
        assert_close(at(t), at(each), 0)
    bridge = lambda t: mixtures.bridge_velocity(mixture, mixture, x, t)  # noqa: E731
    assert_close(bridge(t), bridge(each), 0)
