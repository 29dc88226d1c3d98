"""Low-rank adapters."""

import flax.linen as linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from conftest import assert_close, normal, random_params

from jaxflow import adapters
from jaxflow.adapters import Factors

PARAMS = {
    "attention": {"query": {"kernel": normal(6, 5), "bias": normal(5)}},
    "mlp": {"kernel": normal(5, 4)},
}
KEY = jax.random.key(0)


class Layer(linen.Module):
    """A dense layer with a low-rank branch beside it."""

    rank: int
    scale: float

    @linen.compact
    def __call__(self, x):
        down = linen.Dense(self.rank, use_bias=False, name="down")
        up = linen.Dense(5, use_bias=False, name="up")
        return linen.Dense(5, name="query")(x) + self.scale * up(down(x))


def test_a_new_adapter_changes_nothing():
    adapter = adapters.initial(KEY, PARAMS, 3)
    assert {name: jax.tree.map(jnp.shape, pair) for name, pair in adapter.items()} == {
        "attention/query/kernel": Factors((6, 3), (3, 5))
    }
    merged = adapters.merge(PARAMS, [(adapter, 1.0)])
    assert jax.tree.all(jax.tree.map(np.array_equal, merged, PARAMS))
    assert adapters.initial(KEY, PARAMS, 1, "mlp").keys() == {"mlp/kernel"}


def test_merged_weights_are_the_layer_with_a_branch():
    """Within 1e-5, for two adapters at their scales."""
    x, branch = normal(7, 6), Layer(3, 0.7)
    params = random_params(branch, x)
    adapter = {"query/kernel": Factors(params["down"]["kernel"], params["up"]["kernel"])}
    once = {"query/kernel": Factors(normal(6, 1, seed=1), normal(1, 5, seed=2))}
    merged = adapters.merge({"query": params["query"]}, [(adapter, 0.7), (once, -2.0)])["query"]
    other = -2.0 * (x @ once["query/kernel"].down) @ once["query/kernel"].up
    expected = branch.apply({"params": params}, x) + other
    assert_close(x @ merged["kernel"] + merged["bias"][None], expected, 1e-5)


def test_merged_weights_keep_their_type():
    params = {"query": {"kernel": jnp.ones((2, 2), jnp.bfloat16)}}
    adapter = {"query/kernel": Factors(jnp.ones((2, 1)), jnp.ones((1, 2)))}
    kernel = adapters.merge(params, [(adapter, 0.5)])["query"]["kernel"]
    assert kernel.dtype == jnp.bfloat16
    assert np.all(kernel == 1.5)


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: adapters.initial(KEY, PARAMS, 0), "rank = 0: must be at least 1"),
        (lambda: adapters.initial(KEY, PARAMS, 1, "nothing"), "kernels = 'nothing': no path of a matrix"),
        (
            lambda: adapters.merge(PARAMS, [({"key/kernel": Factors(normal(6, 1), normal(1, 5))}, 1.0)]),
            r"adapter: it changes key/kernel of the shape \(6, 5\); the network has none",
        ),
        (
            lambda: adapters.merge(PARAMS, [({"mlp/kernel": Factors(normal(5, 1), normal(1, 5))}, 1.0)]),
            r"it changes mlp/kernel of the shape \(5, 5\); the network has \(5, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_rejected(call, says):
    with pytest.raises(ValueError, match=says):
        call()
