import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, three_components

from jaxflow import losses, mixtures, paths, per_example

NULL = 3


@pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
def test_drop_rate(rate):
    n = 100_000
    y = jnp.arange(n) % 3
    dropped = losses.drop_condition(jax.random.key(0), y, jnp.array(NULL), rate) == NULL
    # Five standard errors of the rate at 0.1: 5 sqrt(0.09 / n) = 0.0047.
    assert_close(jnp.mean(dropped.astype(jnp.float32)), jnp.array(rate), 0.0048 if 0 < rate < 1 else 0)


def test_dropped_together_with_all_its_parts_and_independent_of_the_batch():
    key = jax.random.key(1)
    y = {"class": jnp.arange(64), "vector": jnp.ones((64, 2))}
    null = {"class": jnp.array(-1), "vector": jnp.zeros(2)}
    out = losses.drop_condition(key, y, null, 0.5)
    assert_close((out["class"] == -1)[:, None].astype(jnp.float32) * jnp.ones((1, 2)), 1 - out["vector"], 0)
    head = losses.drop_condition(key, jax.tree.map(lambda leaf: leaf[:5], y), null, 0.5)
    assert_close(head, jax.tree.map(lambda leaf: leaf[:5], out), 0)


@pytest.mark.parametrize("rate", [-0.1, 1.5, float("nan")])
def test_rate_outside_of_0_1_is_refused(rate):
    with pytest.raises(ValueError, match="rate = "):
        losses.drop_condition(jax.random.key(0), jnp.zeros(2, jnp.int32), jnp.array(1), rate)


def test_exact_field_reaches_the_floor_and_no_other_does():
    """For N(m, diag v) on the linear path the least loss is (pi / 2) sum sqrt(v)."""
    v = jnp.array([0.25, 2.0])
    mixture = mixtures.Mixture(jnp.ones(1), jnp.array([[1.0, -1.0]]), jnp.diag(v)[None])
    data, y = mixtures.sample(jax.random.key(0), mixture, 200_000)
    path, floor = paths.Linear(), jnp.pi / 2 * jnp.sum(jnp.sqrt(v))

    def loss(scale):
        field = lambda x, t, y: scale * mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
        values = losses.flow_matching(jax.random.key(1), field, path, data, y)
        return values.mean(), values.std() / jnp.sqrt(len(values))

    mean, error = loss(1.0)
    assert abs(mean - floor) < 5 * error
    assert loss(0.7)[0] > floor + 5 * error
    assert loss(1.3)[0] > floor + 5 * error


def test_dropping_splits_the_loss_exactly(float64):
    """L_CFG = (1 - eta) L_guided + eta L_unguided, per example given what was dropped."""
    mixture, path = three_components(), paths.Linear()
    data, y = mixtures.sample(jax.random.key(0), mixture, 512)
    field = lambda x, t, y: 1.3 * mixtures.velocity(mixture, path, x, t, y)  # noqa: E731
    key = jax.random.key(1)
    dropped = losses.drop_condition(jax.random.key(2), y, jnp.array(NULL), 0.3)
    mixed, guided, unguided = (
        losses.flow_matching(key, field, path, data, condition)
        for condition in (dropped, y, jnp.full_like(y, NULL))
    )
    assert_close(mixed, jnp.where(dropped == NULL, unguided, guided), 1e-12)


def test_the_target_never_sees_the_condition():
    data = jax.random.normal(jax.random.key(0), (8, 2))
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    one, other = (
        losses.flow_matching(jax.random.key(1), still, paths.Linear(), data, jnp.full(8, k)) for k in (0, 2)
    )
    assert_close(one, other, 0)


def test_the_target_is_not_the_one_that_algorithm_5_prints():
    """A field that predicts data - noise has no loss; the printed target is minus that."""
    data = jax.random.normal(jax.random.key(0), (8, 2))
    perfect = lambda x, t, y: (data - x) / (1 - t[:, None])  # noqa: E731
    right = losses.flow_matching(jax.random.key(1), perfect, paths.Linear(), data, jnp.zeros(8, jnp.int32))
    wrong = losses.flow_matching(
        jax.random.key(1), lambda x, t, y: -perfect(x, t, y), paths.Linear(), data, jnp.zeros(8, jnp.int32)
    )
    assert_close(right, jnp.zeros(8), 1e-6)
    assert jnp.all(wrong > 0.1)


def test_an_example_draws_the_same_in_any_batch():
    data = jax.random.normal(jax.random.key(0), (8, 2))
    still = lambda x, t, y: jnp.zeros_like(x)  # noqa: E731
    y = jnp.zeros(8, jnp.int32)
    batch = losses.flow_matching(jax.random.key(1), still, paths.Linear(), data, y)
    keys = per_example.keys(jax.random.key(1), 8)
    part = losses.flow_matching(keys[5:], still, paths.Linear(), data[5:], y[5:])
    assert_close(batch[5:], part, 0)
