import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import mixtures, paths

LABELS = [None, 0, 1, 2, 3]  # 3 is null


def points(n=32):
    x = jax.random.normal(jax.random.key(0), (n, 2))
    return x, jnp.linspace(0.05, 0.95, n)


def labels(label, n):
    return None if label is None else jnp.full(n, label)


@pytest.mark.parametrize("label", LABELS)
def test_score_is_the_gradient_of_the_log_density(path, label, float64):
    x, t = points()
    y, mixture = labels(label, len(t)), three_components()
    gradient = jax.grad(lambda x: mixtures.log_prob(mixture, path, x, t, y).sum())(x)
    assert_close(mixtures.score(mixture, path, x, t, y), gradient, 1e-10)


@pytest.mark.parametrize("label", LABELS)
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
        own = data[y == k]
        # Five standard errors: of a mean 5 sqrt(0.6 / 40,000), of a variance 3 sqrt(2 / 40,000), or 0.02.
        assert_close(own.mean(axis=0), mixture.means[k], 0.02)
        assert_close(jnp.cov(own.T), mixture.covariances[k], 0.02)
    assert_close(jnp.bincount(y, length=3) / 200_000, mixture.weights, 0.006)


def test_bridge_from_a_standard_normal_is_the_linear_path(float64):
    normal = mixtures.Mixture(jnp.ones(1), jnp.zeros((1, 2)), jnp.eye(2)[None])
    x, t = points()
    bridge = mixtures.bridge_velocity(normal, three_components(), x, t)
    assert_close(bridge, mixtures.velocity(three_components(), paths.Linear(), x, t), 1e-10)


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
        data = (x - (1 - t[:, None]) * noise) / t[:, None]  # the end of the line through x that begins at noise
        weights = density(one, noise) * density(two, data)
        expected = jnp.sum(weights * (data - noise), axis=1) / jnp.sum(weights, axis=1)
    assert_close(mixtures.bridge_velocity(one, two, x, t)[:, 0], expected, 1e-9)
