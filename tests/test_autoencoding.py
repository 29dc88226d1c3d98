"""Against probabilistic PCA, whose evidence lower bound has a known maximum."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import assert_below, assert_close

from jaxflow import autoencoding
from jaxflow.spaces import moments

D, K = 5, 2


def data(n):
    random = np.random.default_rng(0)
    basis = np.linalg.qr(random.standard_normal((D, D)))[0]
    x = random.standard_normal((n, D)) * np.array([2.0, 1.2, 0.5, 0.5, 0.5]) @ basis.T
    return (x + 0.3).astype(np.float32)


@pytest.mark.requirement("R57")
@pytest.mark.usefixtures("standard_promotion")
def test_a_linear_variational_autoencoder_reaches_probabilistic_pca():
    """Tipping and Bishop 1999: the noise is the mean of the discarded eigenvalues, the likelihood that of
    N(mean, W W^T + s^2 I), whose principal axes are those of the data."""
    x = data(4000)
    covariance = np.cov(x.T, bias=True)
    values, axes = np.linalg.eigh(covariance)
    s2 = values[: D - K].mean()
    model = axes[:, -K:] @ np.diag(values[-K:] - s2) @ axes[:, -K:].T + s2 * np.eye(D)
    best = 0.5 * (D * np.log(2 * np.pi) + np.linalg.slogdet(model)[1] + D)  # as tr(model^-1 covariance) = D

    def bound(params, key, rows):
        """Minus the evidence lower bound, in nats."""

        def encode(x):
            variance = jnp.broadcast_to(params["v"], (len(x), K))
            return jnp.concatenate([x @ params["a"] + params["b"], variance], axis=-1)

        value, _ = autoencoding.loss(key, encode, lambda z: z @ params["w"] + params["m"], rows, beta=s2)
        return jnp.mean(value) / s2 + 0.5 * D * np.log(2 * np.pi * s2)

    random = np.random.default_rng(1)
    shapes = {"a": (D, K), "b": (1, K), "v": (1, K), "w": (K, D), "m": (1, D)}
    params = {name: jnp.asarray(0.3 * random.standard_normal(s), jnp.float32) for name, s in shapes.items()}
    optimizer = optax.adam(optax.cosine_decay_schedule(0.03, 1500))

    @jax.jit
    def fit(params):
        def step(carry, key):
            params, state = carry
            updates, state = optimizer.update(jax.grad(bound)(params, key, jnp.asarray(x)), state)
            return (optax.apply_updates(params, updates), state), None

        keys = jax.random.split(jax.random.key(0), 1500)
        (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), keys)
        draws = jax.lax.map(lambda key: bound(params, key, jnp.asarray(x)), jax.random.split(keys[0], 300))
        return params, jnp.mean(draws)

    params, reached = fit(params)
    assert_below(abs(float(reached) - best) / best, 1e-3)
    found = np.linalg.qr(np.asarray(params["w"], np.float64).T)[0]
    angles = np.linalg.svd(found.T @ axes[:, -K:])[1]
    assert_below(np.sqrt(max(0.0, 1 - angles.min() ** 2)), 1e-2)


IMAGES = jnp.asarray(np.random.default_rng(2).standard_normal((3, 2, 2, 1)), jnp.float32)


@pytest.mark.parametrize(("distortion", "expected"), [("l1", 4 * 0.5), ("l2", 4 * 0.125)])
def test_a_plain_autoencoder_has_its_distortion_alone(distortion, expected):
    options = {"beta": 7.0, "distortion": distortion, "variational": False}
    value, decoded = autoencoding.loss(jax.random.key(0), lambda x: x, lambda z: z + 0.5, IMAGES, **options)
    assert_close(value, jnp.full(3, expected), 1e-6)
    assert_close(decoded, IMAGES + 0.5, 0)


def test_beta_weighs_the_divergence_and_each_example_draws_its_own_latents():
    def encode(x):
        return jnp.concatenate([x, jnp.full_like(x, -1.0)], axis=-1)

    def at(beta, rows):
        return autoencoding.loss(jax.random.key(0), encode, lambda z: z, rows, beta=beta)[0]

    divergence = moments.divergence(encode(IMAGES))
    assert_close(at(2.0, IMAGES) - at(0.5, IMAGES), 1.5 * divergence, 1e-5)
    assert_close(at(0.5, IMAGES[:1]), at(0.5, IMAGES)[:1], 1e-6)
    assert_close(at(jnp.array([0.5, 2.0, 0.0]), IMAGES)[1], at(2.0, IMAGES)[1], 1e-6)


def test_each_player_gets_the_gradient_of_its_own_loss():
    """D is the mean of the logits a x, and decoded = x + b: of both losses the derivatives are known."""
    images = jnp.asarray([[0.2, 0.1], [3.0, 1.0]])

    def total(players, weight):
        discriminate = lambda a, x: a * x  # noqa: E731
        a, b = players
        return autoencoding.adversarial(discriminate, a, images, images + b, weight)

    a, b, weight = 0.5, -1.0, jnp.asarray([0.25, 0.0])
    false = a * (images + b).mean(axis=1)
    hinges = jnp.asarray([1 - 0.075 + 1 - 0.425, 0.25 + 1.5])
    assert_close(total((a, b), weight), -weight * false + hinges / 2, 1e-6)
    by_a, by_b = jax.jacobian(total)((jnp.asarray(a), jnp.asarray(b)), weight)
    assert_close(by_b, -weight * a, 1e-6)
    # Only the hinge of the logit 1.5, of the second real image, is inactive.
    assert_close(by_a, jnp.asarray([(-0.15 - 0.85) / 2, (-0.5 + 1.0) / 2]), 1e-6)
