import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close

from jaxflow.training.optimizer import MATRICES, adamw, muon

NUMBERS = {"steps": 10, "warmup": 1, "weight_decay": 0.0, "clip": 1e9}
KEY = jax.random.key(0)
GRADIENT = {
    "dense": {"kernel": jax.random.normal(KEY, (8, 20)), "bias": jnp.array([3.0, -0.1])},
    "loop": {"kernel": jax.random.normal(KEY, (3, 8, 20))},
    "convolution": {"kernel": jax.random.normal(KEY, (3, 3, 4, 20))},
    "table": {"embedding": jnp.array([[3.0, -0.1], [2.0, 0.5]])},
}


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


def assert_orthogonal(gradient, update):
    """All singular values are near the learning rate, with the singular vectors of the gradient."""
    u, _, v = jnp.linalg.svd(gradient, full_matrices=False)
    inside = -u.T @ update @ v.T / (0.01 * MATRICES * max(1, 20 / len(gradient)) ** 0.5)
    sizes = jnp.diag(inside)
    assert 0.6 < float(sizes.min()) < float(sizes.max()) < 1.3  # the four iterations come no nearer
    assert_close(inside, jnp.diag(sizes), 1e-4)


def test_muon_moves_a_kernel_along_an_orthogonal_matrix():
    updates = second_update(muon(0.01, **NUMBERS))
    assert_orthogonal(GRADIENT["dense"]["kernel"], updates["dense"]["kernel"])
    for gradient, update in zip(GRADIENT["loop"]["kernel"], updates["loop"]["kernel"], strict=True):
        assert_orthogonal(gradient, update)
    gradient, update = (tree["convolution"]["kernel"].reshape(36, 20) for tree in (GRADIENT, updates))
    assert_orthogonal(gradient, update)


def test_muon_leaves_biases_and_tables_to_adam():
    updates = second_update(muon(0.01, **NUMBERS))
    ahead = 0.9 * 0.19 / (1 - 0.9**3) + 0.1 / 0.19  # Adam with Nesterov's look ahead, second step
    for layer, name in (("dense", "bias"), ("table", "embedding")):
        assert_close(updates[layer][name], -0.01 * ahead * jnp.sign(GRADIENT[layer][name]), 1e-5)
