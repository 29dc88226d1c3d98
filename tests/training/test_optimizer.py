import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close

from jaxflow.training.optimizer import MATRICES, adamw, muon

NUMBERS = {"steps": 10, "warmup": 1, "weight_decay": 0.0, "clip": 1e9}
GRADIENT = {"matrix": jax.random.normal(jax.random.key(0), (8, 20)), "vector": jnp.array([3.0, -0.1])}


@pytest.fixture(autouse=True)
def _promotion(standard_promotion):
    pass


def second_update(transform):
    """The first has the learning rate 0."""
    params = jax.tree.map(jnp.zeros_like, GRADIENT)
    state = transform.init(params)
    for _ in range(2):
        updates, state = transform.update(GRADIENT, state, params)
    return updates


def test_adam_moves_every_number_by_the_learning_rate():
    expected = jax.tree.map(lambda g: -0.01 * jnp.sign(g), GRADIENT)
    assert_close(second_update(adamw(0.01, **NUMBERS)), expected, 1e-5)


def test_muon_moves_a_matrix_along_an_orthogonal_one():
    """All singular values are near the learning rate, with the singular vectors of the gradient."""
    updates = second_update(muon(0.01, **NUMBERS))
    u, _, v = jnp.linalg.svd(GRADIENT["matrix"], full_matrices=False)
    inside = -u.T @ updates["matrix"] @ v.T / (0.01 * MATRICES * jnp.sqrt(20 / 8))
    sizes = jnp.diag(inside)
    assert 0.6 < float(sizes.min()) < float(sizes.max()) < 1.3  # the five iterations come no nearer
    assert_close(inside, jnp.diag(sizes), 1e-4)
    ahead = 0.9 * 0.19 / (1 - 0.9**3) + 0.1 / 0.19  # Adam with Nesterov's look ahead, second step
    assert_close(updates["vector"], -0.01 * ahead * jnp.sign(GRADIENT["vector"]), 1e-5)
