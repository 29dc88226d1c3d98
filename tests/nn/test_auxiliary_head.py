"""The auxiliary head of a DiT: what it predicts, what it costs and what learns from it."""

import jax
import jax.numpy as jnp
import pytest
from conftest import assert_close, normal, random_params

from jaxflow import fields, guidance, nn, paths
from jaxflow.training import flops

X, T, Y, NULL = normal(2, 4, 4, 1), jnp.array([0.1, 0.9]), jnp.array([0, 3]), jnp.array(4)
TEXT = nn.TokenSequence(normal(2, 3, 8), jnp.array([[True, True, False], [False] * 3]), normal(2, 6))
HEAD = {"auxiliary_final", "auxiliary_final_modulation"}
MODULATION, LINEAR = 2 * 2 * 8 * 16, 2 * 2 * 4 * 8 * 4
"""Operations of the head's two layers on two images of 4 patches, of width 8 and 4 pixels."""


def dit(depth=3, encode=None, **options):
    encode = nn.ClassTable(4) if encode is None else encode
    return nn.DiT(encode, patch=2, width=8, depth=depth, heads=2, mlp_ratio=1, **options)


def mm_dit(**options):
    return dit(4, nn.TokenProjection(), joint_attention=True, dual_blocks=1, **options)


def outputs(network, params, prediction="velocity"):
    return fields.with_auxiliary(network, params, paths.Linear(), prediction=prediction)


def test_without_a_head_nothing_changes():
    """It adds its own parameters to the same others, and the network's output stays that of the others."""
    network = dit(auxiliary=2)
    with_head, without = (jax.eval_shape(one.init, jax.random.key(0), X, T, Y) for one in (network, dit()))
    assert set(with_head) == {"params"}
    assert {name: with_head["params"].pop(name) for name in HEAD}
    assert with_head == without
    params = random_params(network, X, T, Y)
    others = {name: leaf for name, leaf in params.items() if name not in HEAD}
    plain = dit().apply({"params": others}, X, T, Y)
    assert_close(network.apply({"params": params}, X, T, Y), plain, 0)
    assert_close(outputs(network, params)(X, T, Y)[1], plain, 0)


@pytest.mark.parametrize("scan", [False, True])
def test_the_head_is_the_last_layer_of_a_shallower_network(scan):
    network = dit(auxiliary=2, scan=scan)
    params = random_params(network, X, T, Y)
    last = {"final": "auxiliary_final", "final_modulation": "auxiliary_final_modulation"}
    shallow = {name: params[last.get(name, name)] for name in params if name not in HEAD}
    for name in ("block_2", "later_blocks"):
        shallow.pop(name, None)
    expected = dit(2, scan=scan).apply({"params": shallow}, X, T, Y)
    assert_close(outputs(network, params)(X, T, Y)[0], expected, 1e-6)


@pytest.mark.parametrize(
    ("network", "y", "later"),
    [
        (dit(auxiliary=1), Y, {"block_1", "block_2"}),
        (mm_dit(auxiliary=2, scan=True), TEXT, {"later_blocks", "block_3"}),
        (mm_dit(auxiliary=3, scan=True), TEXT, {"block_3"}),
    ],
)
def test_its_loss_reaches_the_blocks_before_it_and_no_others(network, y, later):
    params = random_params(network, X, T, y)
    gradient = jax.jit(jax.grad(lambda params: jnp.sum(outputs(network, params)(X, T, y)[0] ** 2)))(params)
    still = {name for name, part in gradient.items() if not any(map(jnp.any, jax.tree.leaves(part)))}
    assert still == later | {"final", "final_modulation"}


def test_it_is_computed_only_where_it_is_asked_for_and_then_in_the_same_call():
    """By the operations, of the network and of the head; guided further, for twice the examples."""
    network = dit(auxiliary=2)
    params = random_params(network, X, T, Y)
    field, pair = fields.from_network(network, params, paths.Linear()), outputs(network, params)
    plain = flops.count(dit().apply, {"params": params}, X, T, Y)
    assert flops.count(field, X, T, Y) == plain
    assert flops.count(guidance.internal(pair)(field, Y, NULL, 1.0), X, T) == plain
    assert flops.count(guidance.internal(pair)(field, Y, NULL, 2.0), X, T) == plain + MODULATION + LINEAR
    further, both = (
        flops.count(guidance.classifier_free(one, Y, NULL, 3.0), X, T)
        for one in (guidance.extrapolated(pair, 2.0), field)
    )
    assert further == both + 2 * (MODULATION + LINEAR)


def test_both_outputs_are_converted_to_velocities():
    """What predicts the data d is the velocity (d - x) / (1 - t) on the straight path."""
    network = dit(auxiliary=2)
    params = random_params(network, X, T, Y)
    for raw, velocity in zip(
        outputs(network, params)(X, T, Y), outputs(network, params, "data")(X, T, Y), strict=True
    ):
        assert_close(velocity, (raw - X) / (1 - T)[:, None, None, None], 1e-5)


def test_a_head_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="network: DiT has no auxiliary head"):
        outputs(dit(), {})
    for auxiliary, says in ((3, "auxiliary = 3: must be below depth = 3"), (-1, "auxiliary = -1: must be")):
        with pytest.raises(ValueError, match=says):
            jax.eval_shape(dit(auxiliary=auxiliary).init, jax.random.key(0), X, T, Y)
