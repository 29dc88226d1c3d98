import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, normal

from jaxflow.training.optimizer import MATRICES, adamw, muon

NUMBERS = {"steps": 10, "warmup": 1, "weight_decay": 0.0, "clip": 1e9}
GRADIENT = {
    "dense": {"kernel": normal(8, 20), "bias": np.float32([3.0, -0.1])},
    "loop": {"kernel": normal(3, 8, 20)},
    "convolution": {"kernel": normal(3, 3, 4, 20)},
    "table": {"embedding": np.float32([[3.0, -0.1], [2.0, 0.5]])},
}


@pytest.fixture(autouse=True)
def _promotion(standard_promotion):
    pass


def second_update(transform):
    """The first has the learning rate 0."""

    @jax.jit
    def update():
        params = jax.tree.map(jnp.zeros_like, GRADIENT)
        _, state = transform.update(GRADIENT, transform.init(params), params)
        return transform.update(GRADIENT, state, params)[0]

    return jax.tree.map(np.asarray, update())


def test_adam_moves_every_number_by_the_learning_rate():
    expected = jax.tree.map(lambda g: -0.01 * np.sign(g), GRADIENT)
    assert_close(second_update(adamw(0.01, **NUMBERS)), expected, 1e-5)


def assert_orthogonal(gradient, update):
    """All singular values are near the learning rate, with the singular vectors of the gradient."""
    u, _, v = np.linalg.svd(gradient, full_matrices=False)
    inside = -u.T @ update @ v.T / (0.01 * MATRICES * max(1, 20 / len(gradient)) ** 0.5)
    sizes = np.diag(inside)
    assert 0.6 < float(sizes.min()) < float(sizes.max()) < 1.3  # the four iterations come no nearer
    assert_close(inside, np.diag(sizes), 1e-4)


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
        assert_close(updates[layer][name], -0.01 * ahead * np.sign(GRADIENT[layer][name]), 1e-5)
