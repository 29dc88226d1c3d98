import jax
import jax.numpy as jnp
import optax
from chex import assert_trees_all_equal
from conftest import assert_close

from jaxflow.training.stacks import over_stacks, stack, unstack

KEY = jax.random.key(0)
TREE = {
    "first": {"kernel": jax.random.normal(KEY, (4, 3)), "bias": jnp.arange(3.0)},
    "second": {"kernel": 2 * jax.random.normal(KEY, (4, 3)), "scale": -jnp.arange(3.0)},
    "third": {"kernel": jax.random.normal(KEY, (3, 4))},
}


def test_names_and_shapes_are_apart():
    stacks = stack(TREE)
    shapes = {"kernel_4x3": (2, 4, 3), "kernel_3x4": (1, 3, 4), "bias_3": (1, 3), "scale_3": (1, 3)}
    assert {key: leaf.shape for key, leaf in stacks.items()} == shapes
    assert_trees_all_equal(stacks["kernel_4x3"][1], TREE["second"]["kernel"])
    assert_trees_all_equal(unstack(stacks, TREE), TREE)


def test_adam_over_stacks_is_adam(standard_promotion):
    adam, updates = optax.adamw(0.1), []
    for transform in (adam, over_stacks(adam)):
        state, params = transform.init(TREE), TREE
        for _ in range(3):
            update, state = jax.jit(transform.update)(jax.tree.map(jnp.sin, params), state, params)
            params = optax.apply_updates(params, update)
        updates.append(update)
    assert_close(*updates, 1e-6)
